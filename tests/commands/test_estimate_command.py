"""``zolit estimate`` on the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main


@pytest.fixture
def save(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Saves a changed recipe in the current folder, whose model has a file of weights in name."""
    model = tmp_path / "model"
    model.mkdir()
    for file in tiny_llama.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, model)
    # Whoever opens it fails.
    (model / "model.safetensors").write_bytes(b"\xff" * 64)
    monkeypatch.chdir(tmp_path)

    def save(**changes: Any) -> str:
        return write(changed(recipe(Path("model"), films_csv), changes), Path("recipe.yaml"))

    return save


def estimated(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    main(["estimate", *args, "--json", "true"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_reads_no_weights_and_writes_nothing(
    save: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save(**{"model.source.path": "./model"})
    before = sorted(tmp_path.rglob("*"))
    assert Path(tmp_path, config) in before
    main(["estimate", "--config", config])
    shown = capsys.readouterr().out
    for text in ("codes of the weights", "peak of the process", "4 x ", "first epoch", "The run "):
        assert text in shown
    assert (
        sorted(tmp_path.rglob("*")) == [*before, Path(tmp_path, "recipe.yaml")]
        or sorted(tmp_path.rglob("*")) == before
    )


def test_json_and_overrides(save: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    config = save(**{"model.source.path": "./model"})
    int8 = estimated(capsys, "--config", config)
    int4 = estimated(capsys, "--config", config, "--model.quantizer", "Int4")
    # Seven matrices in each of two layers, 64 x 64 four times and 64 x 128 three times.
    assert int8["codes"] == 2 * (4 * 64 * 64 + 3 * 64 * 128)
    assert int4["codes"] == int8["codes"] // 2
    assert int8["total"] == max(int8["peak_loading"], int8["peak_running"])
    assert int8["base"] > 50e6
    assert 0 < int8["machine"]["free"] <= int8["machine"]["total"]
    assert int8["fits"] is (int8["total"] <= int8["machine"]["free"])
    assert int8["checkpoint"] > 0
    without = estimated(capsys, "--config", config, "--run.test_after_fit", "false")
    assert without["checkpoint"] == 0


def test_the_batches_are_those_of_the_run(
    save: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = save(**{"model.source.path": "./model"})
    found = estimated(capsys, "--config", config, "--data.batch_size", "3")
    assert found["train_batch"].startswith("3 x ")
    assert found["evaluation_batch"].startswith("16 x ")
    alone = ["--run.zero_shot", "false", "--run.test_after_fit", "false"]
    none = estimated(capsys, "--config", config, *alone, "--trainer.limit_val_batches", "0")
    assert none["evaluation_batch"] == ""
    assert none["evaluation"] == 0


def test_a_configuration_is_enough(
    save: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = save(**{"model.source.path": "./bare"})
    (tmp_path / "bare").mkdir()
    shutil.copy(tmp_path / "model" / "config.json", tmp_path / "bare")
    found = estimated(capsys, "--config", config)
    assert found["train_batch"] == "4 x 64 tokens"  # the model's context
    assert "assumed" in found["note"]
    assert "bare" in found["note"]
    shorter = estimated(capsys, "--config", config, "--data.max_length", "32")
    assert shorter["train_batch"] == "4 x 32 tokens"
    assert shorter["step"] < found["step"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model.source.path": "./nowhere"}, ("model.source.path", "nowhere")),
        ({"model.tune": ["nothing"]}, ("tune", "'nothing'")),
        ({"model.quantizer.class_path": "Int88"}, ("model.quantizer", "Int8")),
        ({"model.perturber.class_path": "DensePerturber"}, ("DensePerturber", "Int8")),
        ({"model.quantizer.init_args": {"group_size": 128}}, ("group_size", "128")),
        ({"data.init_args.rows.init_args.path": "none.csv"}, ("none.csv",)),
        ({"data.init_args.max_length": 4}, ("4",)),
    ],
    ids=lambda part: str(part)[:40],
)
def test_refused(
    changes: dict[str, Any],
    named: tuple[str, ...],
    save: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = save(**{"model.source.path": "./model", **changes})
    sentence = refusal(capsys, "estimate", "--config", config)
    for text in named:
        assert text in sentence


def test_a_hub_name_without_network(
    save: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    config = save(**{"model.source.path": "nobody/no-such-model"})
    sentence = refusal(capsys, "estimate", "--config", config)
    assert "nobody/no-such-model" in sentence
    assert "network" in sentence
