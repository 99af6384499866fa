"""Resume with something else than the run had: refused or told where the result would differ.

One row for each thing that can be another one; docs/runs.md gives the rule.
"""

import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.differences import find_differences
from zolit.runs.journal import JournalWriter, read_journal

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
    "mask": ({"model.mask": part("RandomMask", fraction=0.5)}, "another recipe"),
    "rule": ({"model.optimizer": part("ZOSignSGD", **OPTIMIZER)}, "another recipe"),
    "feedback": (
        {"model.optimizer": part("ZOSGD", error_feedback=True, **OPTIMIZER)},
        "another recipe",
    ),
    "clipping": ({"model.estimator": part("ClippedTwoPoint", limit=0.1)}, "another recipe"),
    "format": ({"model.quantizer": part("Int4", group_size=32)}, "another model: its weight"),
    "what moves": ({"model.tune": ["*.mlp.*"]}, "another model: it moved tensor"),
    "dtype": ({"model.dtype": "bfloat16"}, "another model|frozen weights"),
}
# What the recipe says, the same on the command line, and what is told.
TOLD: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "learning rate": (
        {"model.optimizer.init_args.lr": 20.0},
        ["--model.optimizer.lr=20.0"],
        "lr 50.0 -> 20.0",
    ),
    "eps": (
        {"model.perturber.init_args.eps": 0.25},
        ["--model.perturber.eps", "0.25"],
        "eps 0.5 -> 0.25",
    ),
    "seed": ({"model.seed": 1}, ["--model.seed=1"], "model.seed 0 -> 1"),
    "queries": (
        {"model.query_scheduler": part("ConstantQueries", n=2)},
        ["--model.query_scheduler=ConstantQueries", "--model.query_scheduler.n=2"],
        "query_scheduler",
    ),
    "schedule": (
        {"model.lr_scheduler": part("torch.optim.lr_scheduler.StepLR", step_size=2)},
        [
            "--model.lr_scheduler=torch.optim.lr_scheduler.StepLR",
            "--model.lr_scheduler.step_size=2",
        ],
        "lr_scheduler",
    ),
    "micro-batches": (
        {"model.micro_batches": 2},
        ["--model.micro_batches=2"],
        "micro_batches 1 -> 2",
    ),
    "order of rows": ({"data.init_args.seed": 1}, ["--data.seed=1"], "data.init_args.seed 0 -> 1"),
    "batch size": (
        {"data.init_args.batch_size": 8},
        ["--data.batch_size=8"],
        "read other batches than the run would",
    ),
    "fewer rows": (
        {"data.init_args.train_size": 12},
        ["--data.train_size=12"],
        "read other batches than the run would",
    ),
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
    assert str(run) in said
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
        assert f"{run} started from another model: its " in said
        assert "had other numbers than here" in said or "frozen weights" in said
    # The same weights in another place are the same model.
    shutil.copytree(tiny_llama, tmp_path / "moved")
    main(resumed(base, run, {"model.source.path": str(tmp_path / "moved")}))
    assert read_journal(run / "journal.bin").end == 6


@pytest.mark.parametrize("name", TOLD)
def test_told_if_asked_for_by_name(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, options, sentence = TOLD[name]
    main(["fit", "--resume", str(run), "--trainer.max_steps=8", *options])
    assert sentence in capsys.readouterr().err
    assert read_journal(run / "journal.bin").end == 8


@pytest.mark.parametrize("name", TOLD)
def test_another_recipe_is_refused_with_what_differs(
    name: str, base: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, options, _ = TOLD[name]
    before = (run / "journal.bin").read_bytes()
    said = refusal(capsys, *resumed(base, run, {**changes, "trainer.max_steps": 8}))
    assert "ask for the change by name" in said
    for option in " ".join(options).replace("=", " ").split(" --")[-1:]:
        assert option.removeprefix("--") in said
    assert (run / "journal.bin").read_bytes() == before


def test_a_change_stays_until_another_is_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The second resume follows the first one's rate; going back is a change like any other."""
    first = tmp_path / "first.yaml"
    shutil.copy(run / "config.yaml", first)
    main(["fit", "--resume", str(run), "--trainer.max_steps=8", "--model.optimizer.lr=20"])
    capsys.readouterr()
    main(["fit", "--resume", str(run), "--trainer.max_steps=9"])
    assert "other options" not in capsys.readouterr().err
    rates = [step.rates for step in read_journal(run / "journal.bin").steps]
    assert rates == [(50.0,)] * 6 + [(20.0,)] * 3
    back = ["fit", "--config", str(first), "--resume", str(run), "--trainer.max_steps=10"]
    assert "lr 20.0 -> 50.0" in refusal(capsys, *back)
    main([*back, "--model.optimizer.lr=50"])
    file = str(run / "checkpoints" / "last.ckpt")  # of step 9
    main(["export", str(run), "--to", str(tmp_path / "model"), "--ckpt_path", file])
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| changed after step 6 | model.optimizer.lr 50.0 -> 20.0 |" in card
    assert card.count("changed after step") == 1, "what came later did not move these weights"


def test_a_finished_run_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def content() -> dict[str, bytes]:
        return {str(one): one.read_bytes() for one in run.rglob("*") if one.is_file()}

    before = content()
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--resume", str(run)])
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert "finished after 6 steps, nothing to do" in printed.out
    assert f"zolit fit --resume {run} --trainer.max_steps 12" in printed.out
    assert printed.err == ""
    assert content() == before


def test_resume_alone_reads_the_runs_recipe(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--resume", str(run), "--trainer.max_steps=7"])
    assert read_journal(run / "journal.bin").end == 7
    (run / "config.yaml").unlink()
    capsys.readouterr()
    assert "holds no config.yaml" in refusal(capsys, "fit", "--resume", str(run))


@pytest.mark.parametrize("name", SILENT)
def test_silent(
    name: str,
    base: dict[str, Any],
    run: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    capsys.readouterr()
    with suppress(SystemExit):  # nothing is left to do
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
    main(resumed(base, run, {"trainer.max_steps": 7}))
    told = [one for one in capsys.readouterr().err.splitlines() if "begun elsewhere" in one]
    assert len(told) == 1
    assert f"{name} other -> " in told[0]


@pytest.mark.parametrize(
    ("old", "new", "differ"),
    [
        ("zolit.strategies.Int8", "zolit.Int8", False),
        ("zolit.strategies.quantizer.int8.Int8", "zolit.Int8", False),
        ("zolit.strategies.Int8", "zolit.Int4", True),
        ("zolit.gone.Int8", "zolit.Int8", True),
        ("os.path.join", "posixpath.join", True),  # nothing but zolit's own is imported
    ],
)
def test_names_of_one_class_are_the_same(old: str, new: str, differ: bool) -> None:
    texts = (f"model: {{quantizer: {{class_path: {name}}}}}\n" for name in (old, new))
    found = find_differences(*texts)
    assert bool(found.past | found.future | found.others | found.rows | found.more) == differ
