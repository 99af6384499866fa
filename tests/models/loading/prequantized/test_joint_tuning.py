"""Scales of a quantized checkpoint tuned together with what quantization left as floats."""

from pathlib import Path

import pytest
import torch
from quantized_folders import quantized_llama
from test_prequantized import NextToken, step
from torch import Tensor

from zolit.formats.dense import DenseWeight
from zolit.models.source import ModelSource
from zolit.optim import ZOSGD
from zolit.strategies import ScalePerturber, Stored
from zolit.training.zero_order import ZeroOrderModule


def load(folder: Path, tune: list[str], float_unit: float = 0.1) -> ZeroOrderModule:
    one = ZeroOrderModule(
        ModelSource(str(folder)),
        Stored(),
        ScalePerturber(float_unit=float_unit),
        objective=NextToken(),
        optimizer=lambda params: ZOSGD(params, lr=1e-2),
        dtype="float32",
        kernels="reference",
        tune=tune,
    )
    one.configure_model()
    return one


def tensors(one: ZeroOrderModule) -> dict[str, Tensor]:
    return {
        f"{weight.path}.{name}": tensor.clone()
        for weight in one.weights
        for name, tensor in weight.store.tensors().items()
    }


@pytest.mark.parametrize("kind", ["4 bits", "1x16"])
@pytest.mark.parametrize("floats", [["embeddings"], ["norms"], ["embeddings", "norms", "output"]])
def test_both_move_and_go_on_alike_from_a_checkpoint(
    kind: str, floats: list[str], tmp_path: Path
) -> None:
    quantized_llama(tmp_path, kind)
    tune = ["linear", *floats]
    one, other = load(tmp_path, tune), load(tmp_path, tune)
    assert one.pairable == ("norms" not in floats)
    start = tensors(one)
    step(one, 0)
    end = tensors(one)
    moved = {name for name in end if not torch.equal(end[name], start[name])}
    codes = {name for name in end if name.endswith((".packed", ".codes", ".codebooks"))}
    assert moved == end.keys() - codes == one.state_dict().keys()
    dense = [weight.path for weight in one.weights if isinstance(weight.store, DenseWeight)]
    assert len(dense) == {"embeddings": 1, "norms": 5}.get("".join(floats), 7)
    other.load_state_dict(one.state_dict())
    step(one, 1)
    step(other, 1)
    mine, theirs = tensors(one), tensors(other)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_floats_move_in_a_unit_of_their_own(tmp_path: Path) -> None:
    """The same directions: a tenth of the unit is a tenth of the move of floats, none of scales."""
    quantized_llama(tmp_path, "4 bits")
    sizes = []
    for unit in (0.1, 1.0):
        one = load(tmp_path, ["linear", "norms"], unit)
        rest = {weight.path: weight.dense() for weight in one.weights}
        with one.reading.perturbed(5, 1e-2, 1):
            sizes.append({w.path: (w.dense() - rest[w.path]).norm() for w in one.weights})
    for path, size in sizes[0].items():
        ratio = float(sizes[1][path] / size)
        assert ratio == pytest.approx(10.0 if "norm" in path else 1.0, rel=1e-2)
