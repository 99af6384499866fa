"""A run computes the saliency that its mask lacks, and keeps the choice of a mask that read one."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from cli_recipe import changed, recipe, refusal, write
from safetensors import safe_open

import zolit
from zolit.calibration.saliency_file import Saliency
from zolit.calibration.sweeps import Sweeps
from zolit.cli import main
from zolit.datamodules import FileRows, PromptDataModule
from zolit.errors import UserError
from zolit.models.loading.load import load_model
from zolit.models.source import ModelSource
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.journal import read_journal
from zolit.strategies import Int4, Int8, ScalePerturber, Sensitive, SparsePerturber
from zolit.training.zero_order import ZeroOrderModule

QUIET = {"trainer.enable_progress_bar": False, "run.zero_shot": False, "run.test_after_fit": False}
SPARSE = {
    **QUIET,
    "model.quantizer": {"class_path": "Int4", "init_args": {"group_size": 32}},
    "model.perturber": {"class_path": "SparsePerturber"},
    "model.mask": {"class_path": "Sensitive", "init_args": {"fraction": 0.02}},
    "model.optimizer.init_args.lr": 0.1,
}


class KilledHere(BaseException):
    """Stands for the end of the process."""


def result(run: Path) -> tuple[Any, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Steps, weights at the end, and the choice of a run."""
    folder = RunFolder(run)
    last = torch.load(folder.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
    with safe_open(folder.mask, "pt") as opened:
        chosen = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    return read_journal(folder.journal).steps, last, chosen


def assert_same(one: Path, two: Path) -> None:
    mine, theirs = result(one), result(two)
    assert mine[0] == theirs[0]
    assert len({step.values for step in mine[0]}) == len(mine[0]) > 1
    for here, there in zip(mine[1:], theirs[1:], strict=True):
        assert here.keys() == there.keys()
        assert all(torch.equal(tensor, there[name]) for name, tensor in here.items())


@pytest.fixture
def plain(tiny_llama: Path, films_csv: Path, tmp_path: Path, monkeypatch: Any) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return changed(recipe(tiny_llama, films_csv), SPARSE)


def test_without_a_file_it_is_the_run_with_the_file(
    plain: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(plain, Path("plain.yaml"))
    main(["fit", "--config", file, "--run.run_dir", "own"])
    said = capsys.readouterr().out
    assert "by gradients of 16 training rows, kept in own/saliency.safetensors" in said
    assert "saliency: 4/4 passes through blocks" in said
    assert "mask Sensitive: 14 matrices have fisher scores after" in said
    assert Saliency.open("own/saliency.safetensors").facts.keep == 0.02
    main(["saliency", "--config", file, "--to", "rows.saliency", "--saliency.keep", "0.05"])
    masked = ["--model.mask.file", "rows.saliency", "--run.run_dir", "given"]
    main(["fit", "--config", file, *masked])
    assert_same(Path("own"), Path("given"))
    recorded = read_journal(Path("given/journal.bin")).header.parts
    assert set(recorded) == {"model.mask.file"}
    assert len(recorded["model.mask.file"]) == 32

    # Neither the file nor the place of the run is needed any more.
    Path("rows.saliency").unlink()
    for name in ("own", "given"):
        Path(name).rename(f"moved_{name}")
        main(["verify", f"moved_{name}"])
        assert "weights as recorded after steps: 3" in capsys.readouterr().out
        main(["fit", "--resume", f"moved_{name}", "--trainer.max_steps", "5"])
    Path("moved_own/saliency.safetensors").unlink()
    assert_same(Path("moved_own"), Path("moved_given"))
    main(["export", "moved_own", "--to", "model"])
    Path("new.csv").write_text("text\nfilm 3 is bright\n", encoding="utf-8")
    main(["predict", "moved_given", "--rows", "new.csv", "--to", "answers.csv"])
    assert len(Path("answers.csv").read_text(encoding="utf-8").splitlines()) == 2
    main(["publish", "moved_own", "--to", "own.zolit"])
    assert "they also need" not in capsys.readouterr().out
    model = plain["model"]["source"]["path"]
    main(["apply", "own.zolit", "--model", model, "--to", "applied"])
    main(["export", "applied", "--to", "applied_model"])
    mine, theirs = (
        Path(one, "model.safetensors").read_bytes() for one in ("model", "applied_model")
    )
    assert mine == theirs


@pytest.mark.parametrize("end", [KilledHere, KeyboardInterrupt])
def test_a_killed_start_goes_on_at_its_block(
    end: type[BaseException], plain: dict[str, Any], monkeypatch: Any, capsys: Any
) -> None:
    Path("own.txt").write_text("a film is bright and short or dull and long " * 60)
    text = {"text": "own.txt", "samples": 4, "length": 12}
    options = {"model.mask.init_args.saliency": text}
    file = write(changed(plain, options), Path("own.yaml"))
    main(["fit", "--config", file, "--run.run_dir", "whole"])
    blocks: list[int] = []
    back = Sweeps._back

    def killed(self: Sweeps, block: int) -> None:
        blocks.append(block)
        if blocks == [1, 0]:
            raise end
        back(self, block)

    monkeypatch.setattr(Sweeps, "_back", killed)
    arguments = ["fit", "--config", file, "--run.run_dir", "cut"]
    with pytest.raises((KilledHere, SystemExit)):
        main(arguments)
    assert "what was scored so far stays in cut" in capsys.readouterr().err
    assert not RunFolder("cut").holds_run()
    main(arguments)
    assert blocks == [1, 0, 0]
    assert_same(Path("cut"), Path("whole"))
    assert {file.name for file in Path("cut").iterdir()} == {
        file.name for file in Path("whole").iterdir()
    }


def test_a_start_that_is_refused_after_its_scores_keeps_them(
    plain: dict[str, Any], monkeypatch: Any, capsys: Any
) -> None:
    file = write(plain, Path("own.yaml"))
    arguments = ["fit", "--config", file, "--run.run_dir", "own"]
    with monkeypatch.context() as patched:
        patched.setattr(ZeroOrderModule, "settle_rate", _refuse)
        assert "no rate" in refusal_after(capsys, *arguments)
    assert sorted(one.name for one in Path("own").iterdir()) == [
        ".journal.bin.lock",
        "saliency.safetensors",
    ]
    with monkeypatch.context() as patched:
        patched.setattr(Sweeps, "_back", _refuse)
        main(arguments)
    assert result(Path("own"))[0]
    # Of other rows it is another one.
    Path("other").mkdir()
    Path("own/saliency.safetensors").rename("other/saliency.safetensors")
    other = ["fit", "--config", file, "--run.run_dir", "other", "--data.seed", "3"]
    said = "is there already, of another model, text or method; delete it"
    assert said in refusal_after(capsys, *other)
    before = Path("other/saliency.safetensors").read_bytes()
    main([*other, "--run.overwrite", "true"])
    assert Path("other/saliency.safetensors").read_bytes() != before


def _refuse(*arguments: Any) -> None:
    raise UserError("no rate")


def refusal_after(capsys: Any, *arguments: str) -> str:
    """The sentence of a command that is refused after it has told something."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    assert stop.value.code == 2
    return str(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.tune": ["linear", "embeddings"]}, "model.embed_tokens.weight gets no scores"),
        ({"model.mask.init_args.fraction": 1e-4}, "0.0001 of the 4096 coordinates of model."),
        (
            {"model.mask.init_args.saliency": {"keep": 0.001}},
            "saliency.keep: got 0.001, but mask Sensitive looks at a fraction of 0.02",
        ),
        ({"model.mask.init_args.saliency": {"samples": 99}}, "saliency.samples: got 99"),
        ({"model.mask.init_args.saliency": {"text": "short.txt"}}, "windows of length=64 need"),
        ({"model.mask.init_args.saliency": {"text": "none.txt"}}, "none.txt"),
        ({"model.mask.init_args.saliency": {"method": "snip"}}, "method"),
    ],
)
def test_what_can_be_told_before_is_refused_before(
    changes: dict[str, Any], message: str, plain: dict[str, Any], capsys: Any
) -> None:
    Path("short.txt").write_text("a film", encoding="utf-8")
    file = write(changed(plain, changes), Path("own.yaml"))
    before = sorted(Path().rglob("*"))
    assert message in refusal(capsys, "fit", "--config", file, "--run.run_dir", "own")
    assert sorted(Path().rglob("*")) == before


def test_without_a_run_there_are_no_scores(plain: dict[str, Any], capsys: Any) -> None:
    file = write(plain, Path("own.yaml"))
    said = refusal(capsys, "test", "--config", file)
    assert "mask Sensitive: file: got none; zolit fit" in said
    main(["estimate", "--config", file])
    assert "which scores the weights for mask Sensitive, is not counted" in capsys.readouterr().out


def prompts(source: ModelSource, rows: Path) -> PromptDataModule:
    sizes = {"train_size": 16, "validation_size": 16, "test_size": 16, "batch_size": 4}
    return PromptDataModule("rotten_tomatoes", FileRows(str(rows)), source, **sizes)


def test_from_python(tiny_llama: Path, films_csv: Path, tmp_path: Path, capsys: Any) -> None:
    source = ModelSource(str(tiny_llama))
    options = RunOptions(zero_shot=False, test_after_fit=False)
    quiet = {"max_steps": 2, "val_check_interval": 2, "enable_progress_bar": False}

    def module(fraction: float = 0.05, **further: Any) -> ZeroOrderModule:
        mask = Sensitive(fraction=fraction)
        return ZeroOrderModule(
            source,
            Int8(),
            ScalePerturber(granularity="group"),
            mask=mask,
            dtype="float32",
            kernels="reference",
            **further,
        )

    run = tmp_path / "run"
    zolit.fit(module(), prompts(source, films_csv), run, options=options, **quiet)
    # Of a scale the scores of its weights are summed: all of them are needed.
    assert Saliency.open(run / "saliency.safetensors").facts.keep == 1
    loaded = zolit.load(run, module=module())
    assert 0.04 < loaded.weights[0].site.support.density < 0.06
    zolit.fit(
        module(),
        prompts(source, films_csv),
        run,
        resume=True,
        options=options,
        **quiet | {"max_steps": 4},
    )
    assert zolit.verify(run, module=module())[-1] == 4
    with pytest.raises(UserError, match=r"got Sensitive \(fraction 0.1 .* is of Sensitive"):
        zolit.load(run, module=module(0.1))

    class Rows(L.LightningDataModule):
        def train_dataloader(self) -> Any:
            return [0]

    one = {**quiet, "val_check_interval": 1}
    with pytest.raises(UserError, match="Rows has no prompts with answers; give a file of text"):
        zolit.fit(module(), Rows(), tmp_path / "other", options=options, **one)
    assert not (tmp_path / "other").exists()
    model = load_model(source, torch.float32)
    with pytest.raises(UserError, match=r"zolit\.fit of a module that is not loaded yet"):
        zolit.wrap(model, Int4(32), SparsePerturber(), mask=Sensitive())
