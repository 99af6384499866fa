"""What is refused before torch is loaded: no wait, one sentence, exit code 2, nothing written."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_help import answered

from zolit.caller import as_command
from zolit.commands.early import GROUPS, SINGLE, refuse_early
from zolit.commands.given import Given, checkpoint_path, read_config
from zolit.errors import UserError

GOOD: dict[str, Any] = {"model": {"source": {"path": "m"}}, "trainer": {"max_steps": 3}}


def saved(folder: Path, content: Any = None, **top: Any) -> str:
    file = folder / "c.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.write_text(yaml.safe_dump({**GOOD, **top}), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"model: {a: [\n", "is not valid YAML (line 2, column 1)"),
        (b"- 3\n", "holds no options"),
        ("model: \u00e9".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        ("model: \u00e9".encode("utf-16-be"), "is not UTF-8"),
        (b"# x\n# caf\xe9\nmodel: {}\n", "is not UTF-8 (byte 0xe9 in line 2), perhaps Latin-1"),
        (b"modle: {a: 1}\n", "unknown option modle; nearest: model"),
        (b"trainer: {devices: 2}\n", "trainer.devices: got 2"),
        (b"trainer: {strategy: ddp}\n", "trainer.strategy: got 'ddp'"),
        (b"trainer: {precision: 16-true}\n", "trainer.precision: got '16-true'"),
        (b"trainer: {accumulate_grad_batches: 2}\n", "model.micro_batches"),
        (b"trainer: {gradient_clip_val: 1}\n", "ClippedTwoPoint"),
        (b"ckpt_path: none.ckpt\n", "ckpt_path: got 'none.ckpt'"),
    ],
)
def test_refused_without_any_library(content: bytes, sentence: str, tmp_path: Path) -> None:
    saved(tmp_path, content)
    before = sorted(tmp_path.rglob("*"))
    code, out, errors, loaded = answered("fit", "--config", "c.yaml", cwd=tmp_path)
    assert (code, out, loaded) == (2, "", [])
    assert sentence in errors
    assert len(errors.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_part_that_is_refused_waits_for_no_library_of_another(tmp_path: Path) -> None:
    """Lightning loads torchmetrics, and that transformers and matplotlib; the rest is zolit's."""
    optimizer = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}}
    parts = {"quantizer": "Int8", "perturber": "ScalePerturber", "optimizer": optimizer}
    rows = {"class_path": "FileRows", "init_args": {"path": "rows.csv"}}
    task = {"init_args": {"task": "sst2", "rows": rows}}
    saved(tmp_path, model={"source": {"path": "m"}, **parts}, data=task)
    code, _, errors, loaded = answered("fit", "--config", "c.yaml", cwd=tmp_path)
    assert code == 2
    assert "model.optimizer: got 'torch.optim.SGD', which steps on gradients" in errors
    assert not {"datasets", "peft"} & {*loaded}, loaded


def refused(*args: str) -> str:
    with as_command(), pytest.raises(UserError) as said:
        refuse_early(["fit", *args], zero_order=True)
    return str(said.value)


def test_options_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, run={"run_dir": "run"})
    refuse_early(["fit", "--config", file], zero_order=True)
    assert "trainer.devices: got 2" in refused("--config", file, "--trainer.devices", "2")
    assert "trainer.precision" in refused("--config", file, "--trainer.precision=16-mixed")
    assert "nearest: trainer" in refused("--config", file, "--trainr.devices", "2")
    # The last one wins, as for the parser.
    both = ["--trainer.devices=2", "--trainer.devices=1"]
    refuse_early(["fit", "--config", file, *both], zero_order=True)
    # A module of the user's own may have a backward pass.
    refuse_early(["fit", "--config", file, "--trainer.gradient_clip_val=1"], zero_order=False)


def test_the_lists_are_the_parsers(tmp_path: Path) -> None:
    """Every option of every command is known here, and none that there is not."""
    program = (
        "import json, sys\n"
        "from zolit.commands.parser import ZolitCLI, ZeroOrderModule\n"
        "from zolit.datamodules import PromptDataModule\n"
        "class Kept(ZolitCLI):\n"
        "    def parse_arguments(self, parser, args):\n"
        "        found = {key.partition('.')[0] for one in self._subcommand_parsers.values()\n"
        "                 for key in one.get_defaults().keys()}\n"
        "        print(json.dumps(sorted(found - {'config'})))\n"
        "        sys.exit(0)\n"
        "Kept(ZeroOrderModule, PromptDataModule, ['fit'])\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)  # noqa: S603
    assert yaml.safe_load(done.stdout) == sorted((*GROUPS, *SINGLE)), done.stderr


def test_later_options_win(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("model: {quantizer: {class_path: a.Int8}, eps: 3}")
    second.write_text("model: {seed: 1}")
    given = Given(
        [f"--config={first}", "--model.eps=1", "--flag", "--model.eps", "2", "-c", f"{second}"]
    )
    assert given.configs == [str(first), str(second)]
    assert given.values["model.eps"] == "2"
    assert given.value("model.eps") == 2
    assert given.options == {"model.eps", "flag"}
    assert given.key_ending("quantizer.class_path") == "model.quantizer.class_path"
    assert given.key_ending("class_path", "model.quantizer") == "model.quantizer.class_path"
    assert given.class_above("model.quantizer.init_args.bits") == "Int8"
    assert given.run_dir("fit") == "runs/b"


def test_a_byte_order_mark_of_utf_8_is_read(tmp_path: Path) -> None:
    file = saved(tmp_path, "\ufeffmodel: {a: caf\u00e9}".encode())
    assert read_config(file) == {"model": {"a": "caf\u00e9"}}


def test_the_text_itself_may_be_given() -> None:
    assert read_config("model: {a: 1}") == {"model": {"a": 1}}
    with pytest.raises(UserError, match="expected an existing YAML file"):
        read_config("none.yaml")


def test_best_and_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "last.ckpt").touch()
    (run / "config.yaml").write_text("model: {}")
    given = Given(["--config", str(run / "config.yaml")])
    last = str(run / "checkpoints" / "last.ckpt")
    assert checkpoint_path(given, "test", "last", "elsewhere") == last
    assert checkpoint_path(Given([]), "test", "last", str(run)) == last
    for path in ("best", str(run / "checkpoints" / "best.ckpt")):
        with pytest.raises(UserError, match=r"made no validation .*last\.ckpt"):
            checkpoint_path(given, "test", path, "elsewhere")
    with pytest.raises(UserError, match="expected the file of a checkpoint to start from"):
        checkpoint_path(given, "fit", "best", str(run))
