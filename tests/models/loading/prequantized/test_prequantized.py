"""Checkpoints of GPTQ and AQLM: loaded as they are, tuned in place, refused where damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quantized_folders import AQLM, GPTQ, quantization_config, quantized_llama, write_config
from safetensors.torch import save_file
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.kernels.dispatch import Preference
from zolit.models.source import ModelSource
from zolit.noise import fold, signed
from zolit.objectives.base import Objective
from zolit.optim import ZOSGD
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int4,
    NoQuantizer,
    Perturber,
    Quantizer,
    ScalePerturber,
    Stored,
)
from zolit.training.zero_order import ZeroOrderModule

TOKENS = torch.arange(4 * 8).view(4, 8) * 5 % 96
KINDS = [*GPTQ, *AQLM]


class NextToken(Objective):
    """Cross-entropy of the next token."""

    def losses(self, model: nn.Module, batch: Tensor, copies: int = 1) -> Tensor:
        ids = batch.repeat(copies, 1)
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = nn.functional.cross_entropy(
            logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
        )
        return loss.view(copies, -1).mean(1)


def load(
    folder: Path,
    quantizer: Quantizer | None = None,
    perturber: Perturber | None = None,
    kernels: Preference = "reference",
) -> ZeroOrderModule:
    one = ZeroOrderModule(
        ModelSource(str(folder)),
        quantizer or Stored(),
        perturber or ScalePerturber(),
        objective=NextToken(),
        optimizer=lambda params: ZOSGD(params, lr=1e-2),
        dtype="float32",
        kernels=kernels,
    )
    one.configure_model()
    return one


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=TOKENS, use_cache=False).logits


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_decoded_weights(kind: str, tmp_path: Path) -> None:
    floats, _ = quantized_llama(tmp_path, kind)
    one = load(tmp_path)
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-3, atol=1e-4)
    assert len(one.weights) == 14
    formats = {weight.store.describe()["format"] for weight in one.weights}
    expected = {
        "2 bits": "GroupedWeight of 2 bits",
        "3 bits, act-order": "PermutedWeight of GroupedWeight of 3 bits",
        "4 bits": "Int4Weight",
        "4 bits, act-order": "PermutedWeight of Int4Weight",
        "8 bits": "Int8ZeroWeight",
    }
    assert formats == {expected.get(kind, "CodebookWeight")}


@pytest.mark.parametrize("kind", ["2 bits", "4 bits", "8 bits"])
def test_a_weight_takes_the_bits_of_the_checkpoint(kind: str, tmp_path: Path) -> None:
    quantized_llama(tmp_path, kind)
    for weight in load(tmp_path).weights:
        scales = weight.store.scales()
        codes = [t for name, t in weight.store.tensors().items() if name not in scales]
        held = sum(8 * tensor.numel() * tensor.element_size() for tensor in codes)
        assert held == GPTQ[kind]["bits"] * weight.store.rows * weight.store.columns


def step(one: ZeroOrderModule, number: int) -> None:
    key = fold(3, number)
    with torch.no_grad():
        estimate = one.estimate(TOKENS, [key])
    optimizer = one.configure_optimizers()
    optimizer.step(gradient=ProjectedGradient(torch.tensor([signed(key)]), estimate.values, 5))


def tensors(one: ZeroOrderModule) -> dict[str, Tensor]:
    return {
        f"{weight.path}.{name}": tensor.clone()
        for weight in one.weights
        for name, tensor in weight.store.tensors().items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_scales_are_tuned_and_saved_alone(kind: str, tmp_path: Path) -> None:
    quantized_llama(tmp_path, kind)
    one, other = load(tmp_path), load(tmp_path)
    start = tensors(one)
    step(one, 0)
    moved = {name for name, tensor in tensors(one).items() if not torch.equal(tensor, start[name])}
    assert moved == one.state_dict().keys()
    assert all(name.endswith(("scale", "zero")) for name in moved)
    other.load_state_dict(one.state_dict())
    step(one, 1)
    step(other, 1)
    mine, theirs = tensors(one), tensors(other)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_codes_of_gptq_are_tuned_and_those_of_aqlm_refused(tmp_path: Path) -> None:
    quantized_llama(tmp_path, "3 bits, act-order")
    one = load(tmp_path, perturber=CodePerturber())
    start = tensors(one)
    # A step of a third of a code on average.
    optimizer = ZOSGD(one.weights, lr=1.0)
    optimizer.step(gradient=ProjectedGradient(torch.tensor([7]), torch.tensor([0.3]), 5))
    moved = {name for name, tensor in tensors(one).items() if not torch.equal(tensor, start[name])}
    assert {name.rpartition(".")[2] for name in moved} == {"plane0", "plane1", "plane2"}
    quantized_llama(tmp_path, "2x8")
    with pytest.raises(UserError, match="codes are indices of a table; use ScalePerturber"):
        load(tmp_path, perturber=CodePerturber())


@pytest.mark.parametrize("kind", ["4 bits, act-order", "2x8"])
def test_compiled_kernels_agree(kind: str, tmp_path: Path) -> None:
    quantized_llama(tmp_path, kind)
    one, other = load(tmp_path), load(tmp_path, kernels="compiled")
    torch.testing.assert_close(logits(one.network), logits(other.network), rtol=1e-4, atol=1e-4)


def test_layers_left_as_floats_stay_so(tmp_path: Path) -> None:
    floats, contents = quantized_llama(tmp_path, "4 bits")
    path = "model.layers.1.mlp.down_proj"
    kept = {k: v for k, v in contents.items() if k.rpartition(".")[0] != path}
    kept[f"{path}.weight"] = floats.get_submodule(path).weight.data
    save_file({k: v.contiguous() for k, v in kept.items()}, tmp_path / "model.safetensors")
    one = load(tmp_path)
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-3, atol=1e-4)
    assert not one.network.get_submodule(path).weight.store.quantized


Change = Callable[[Path, dict[str, Tensor]], None]
FIRST = "model.layers.0.mlp.up_proj"


def put(name: str, change: Callable[[Tensor], Tensor | None]) -> Change:
    def write(folder: Path, contents: dict[str, Tensor]) -> None:
        changed = change(contents.pop(f"{FIRST}.{name}"))
        if changed is not None:
            contents[f"{FIRST}.{name}"] = changed
        save_file({k: v.contiguous() for k, v in contents.items()}, folder / "model.safetensors")

    return write


def declare(**values: Any) -> Change:
    def write(folder: Path, contents: dict[str, Tensor]) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["quantization_config"] |= values
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")

    return write


def cut(folder: Path, contents: dict[str, Tensor]) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def pickle(folder: Path, contents: dict[str, Tensor]) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(contents, folder / "pytorch_model.bin")


def rename(folder: Path, contents: dict[str, Tensor]) -> None:
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")


def with_layer(name: str) -> Change:
    def write(folder: Path, contents: dict[str, Tensor]) -> None:
        extra = {f"{name}.qweight": contents[f"{FIRST}.qweight"].clone()}
        save_file({k: v.contiguous() for k, v in (contents | extra).items()}, _file(folder))

    return write


def _file(folder: Path) -> Path:
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("qweight", lambda t: t[1:]), r"up_proj.qweight' of '.*model.safetensors' is \[7, 128"),
        (put("scales", lambda t: t * torch.nan), "up_proj.scales' of .* NaN or infinite"),
        (put("scales", lambda t: t * 0), "up_proj.scales' of .* that are zero"),
        (put("g_idx", lambda t: t + 5), "up_proj.g_idx' of .* names group 6, expected 0 to 1"),
        (put("qzeros", lambda t: None), "holds no tensor '.*up_proj.qzeros'"),
        (put("bias", lambda t: t + 1), "up_proj.bias' of .* is not zero, but the layer has no"),
        (put("qweight", lambda t: None), "holds no tensor 'model.layers.0.mlp.up_proj.weight'"),
        (declare(bits=8), r"qweight.*is \[16, 64\] int32, but quant_method=gptq with bits=8"),
        (
            declare(group_size=64),
            r"qzeros.*is \[4, 8\] int32, but .* group_size=64 makes it \[2, 8",
        ),
        (declare(group_size=16), "has groups of 16 columns, but zolit holds multiples of 32"),
        (declare(quant_method="hqq"), "config.json' has quant_method='hqq', expected one of"),
        (
            declare(**quantization_config("2x8")),
            r"holds no tensor named \*.codebooks, though config.json says quant_method=aqlm",
        ),
        (cut, "model.safetensors"),
        (pickle, "holds 'pytorch_model.bin', a pickle, which may run code; give safetensors"),
        (rename, "holds 'gptq_model-4bit-32g.safetensors' but no model.safetensors"),
        (with_layer("lm_head"), "layer 'lm_head', which is the output layer"),
        (with_layer("model.layers.9.mlp.up_proj"), "which is no linear layer of the model"),
    ],
)
def test_bad_checkpoints_are_refused_in_a_sentence(
    change: Change, message: str, tmp_path: Path
) -> None:
    _, contents = quantized_llama(tmp_path, "4 bits")
    change(tmp_path, contents)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_quantizer_must_fit_the_checkpoint(tmp_path: Path) -> None:
    floats, _ = quantized_llama(tmp_path, "4 bits")
    with pytest.raises(UserError, match=r"quantizer must be Stored for .* got Int4; use quantizer"):
        load(tmp_path, quantizer=Int4(32))
    with pytest.raises(UserError, match=r"quantizer must be Stored for .* got NoQuantizer"):
        load(tmp_path, quantizer=NoQuantizer(), perturber=DensePerturber())
    with pytest.raises(UserError, match="DensePerturber moves floating-point weights, got"):
        load(tmp_path, perturber=DensePerturber())
    floats.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="has no quantization_config; use Int8, Int4 or Float8"):
        load(tmp_path)
    write_config(tmp_path, floats, quantization_config("2 bits"))
    with pytest.raises(UserError, match=r"holds no tensor named \*.qweight"):
        load(tmp_path)
