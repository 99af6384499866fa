"""Resume with something else than the run had: refused or told where the result would differ.

One row for each thing that can be another one; docs/runs.md gives the rule.
"""

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.journal import JournalWriter, read_journal

RUN: dict[str, Any] = {
    "trainer.max_steps": 6,
    "trainer.val_check_interval": 3,
    "trainer.check_val_every_n_epoch": None,
    "trainer.enable_progress_bar": False,
    "run.zero_shot": False,
    "run.test_after_fit": False,
    "model.perturber": {"class_path": "CodePerturber", "init_args": {"eps": 0.5}},
    "model.optimizer": {"class_path": "ZOSGD", "init_args": {"lr": 50.0}},
}


def part(name: str, **options: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": options}


OPTIMIZER = {"lr": 50.0}
REFUSED = {
    "directions": ({"model.perturber.init_args.distribution": "rademacher"}, "another recipe"),
    "coordinates": ({"model.perturber": part("ScalePerturber", eps=0.5)}, "another recipe"),
    "mask": ({"model.mask": part("RandomMask", density=0.5)}, "another recipe"),
    "rule": ({"model.optimizer": part("ZOSignSGD", **OPTIMIZER)}, "another recipe"),
    "feedback": (
        {"model.optimizer": part("ZOSGD", error_feedback=True, **OPTIMIZER)},
        "another recipe",
    ),
    "clipping": ({"model.estimator": part("ClippedTwoPoint", limit=0.1)}, "another recipe"),
    "format": ({"model.quantizer": part("Int4", group_size=32)}, "another model than this one"),
    "what moves": ({"model.tune": ["*.mlp.*"]}, "another model than this one"),
    "dtype": ({"model.dtype": "bfloat16"}, "another model|frozen weights"),
}
TOLD = {
    "learning rate": ({"model.optimizer.init_args.lr": 20.0}, "lr 50.0 -> 20.0"),
    "eps": ({"model.perturber.init_args.eps": 0.25}, "eps 0.5 -> 0.25"),
    "seed": ({"model.seed": 1}, "model.seed 0 -> 1"),
    "queries": ({"model.query_scheduler": part("ConstantQueries", n=2)}, "query_scheduler"),
    "schedule": (
        {"model.lr_scheduler": part("torch.optim.lr_scheduler.StepLR", step_size=2)},
        "lr_scheduler",
    ),
    "micro-batches": ({"model.micro_batches": 2}, "micro_batches 1 -> 2"),
    "order of rows": ({"data.init_args.seed": 1}, "read other batches than the run would"),
    "batch size": ({"data.init_args.batch_size": 8}, "read other batches than the run would"),
    "fewer rows": ({"data.init_args.train_size": 12}, "read other batches than the run would"),
}
SILENT: dict[str, dict[str, Any]] = {
    "nothing": {},
    "more steps": {"trainer.max_steps": 7},
    "other validations": {"trainer.val_check_interval": 2},
    "rows in validations": {"data.init_args.eval_batch_size": 2},
    "tests": {"run.test_after_fit": True},
}
ELSEWHERE = ("torch", "torchao", "transformers", "lightning", "zolit", "device", "threads")
ELSEWHERE += ("instructions", "kernels")


@pytest.fixture(scope="module")
def base(tiny_llama: Path, films_csv: Path) -> dict[str, Any]:
    return changed(recipe(tiny_llama, films_csv), RUN)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, base: dict[str, Any]) -> Path:
    folder = tmp_path_factory.mktemp("differences")
    main(["fit", "--config", write(base, folder / "c.yaml"), "--run.run_dir", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def resumed(base: dict[str, Any], run: Path, options: dict[str, Any]) -> list[str]:
    return ["fit", "--config", write(changed(base, options), run / "other"), "--resume", str(run)]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(
    name: str, base: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, sentence = REFUSED[name]
    before = (run / "journal.bin").read_bytes()
    said = refusal(capsys, *resumed(base, run, options))
    assert "resume: " in said
    assert any(one in said for one in sentence.split("|"))
    assert (run / "journal.bin").read_bytes() == before


def test_another_model_is_refused(
    base: dict[str, Any],
    run: Path,
    tmp_path: Path,
    tiny_llama: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One number of a layer, and one of the embeddings, which do not move."""
    for name in ("model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight"):
        other = tmp_path / name
        shutil.copytree(tiny_llama, other)
        model = hf.AutoModelForCausalLM.from_pretrained(tiny_llama)
        with torch.no_grad():
            model.get_parameter(name)[-1, -1] += 1
        model.save_pretrained(other)
        said = refusal(capsys, *resumed(base, run, {"model.source.path": str(other)}))
        assert "resume: " in said
        assert "other numbers in tensor" in said or "frozen weights" in said
    # The same weights in another place are the same model.
    shutil.copytree(tiny_llama, tmp_path / "moved")
    main(resumed(base, run, {"model.source.path": str(tmp_path / "moved")}))
    assert read_journal(run / "journal.bin").end == 6


@pytest.mark.parametrize("name", TOLD)
def test_told(
    name: str, base: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options, sentence = TOLD[name]
    main(resumed(base, run, {**options, "trainer.max_steps": 8}))
    assert sentence in capsys.readouterr().err
    assert read_journal(run / "journal.bin").end == 8


@pytest.mark.parametrize("name", SILENT)
def test_silent(
    name: str,
    base: dict[str, Any],
    run: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    main(resumed(base, run, SILENT[name]))
    lines = [one for one in capsys.readouterr().err.splitlines() if one.startswith("zolit: ")]
    assert [one for one in lines if "going on after step" not in one] == []
    steps = read_journal(run / "journal.bin").steps
    assert steps[:6] == read_journal(finished / "journal.bin").steps


@pytest.mark.parametrize("name", ELSEWHERE)
def test_another_machine_or_library_is_told(
    name: str, base: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "journal.bin"
    found = read_journal(path)
    assert found.header is not None
    there = {**found.header.environment, name: "other"}
    path.unlink()
    writer = JournalWriter(path)
    writer.begin(replace(found.header, environment=there))
    for record in found.records:
        writer.append(record)
    writer.close()
    capsys.readouterr()
    main(resumed(base, run, {}))
    told = [one for one in capsys.readouterr().err.splitlines() if "begun elsewhere" in one]
    assert len(told) == 1
    assert f"{name} other -> " in told[0]
