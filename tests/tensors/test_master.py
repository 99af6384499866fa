"""Float weights that are multiplied as they are stored: forward, straight-through gradients."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zolit.errors import UserError
from zolit.strategies import Float8, Int4, Int8, Quantizer
from zolit.tensors.master import Form, MasterWeight
from zolit.tensors.product import matmul
from zolit.tensors.reading import Reading

QUANTIZERS: dict[str, Quantizer] = {
    "int8": Int8(),
    "int8, groups": Int8(32),
    "w8a8": Int8(activations="int8"),
    "int4": Int4(32),
    "int4, symmetric": Int4(32, symmetric=True),
    "float8": Float8(),
    "float8, activations": Float8(activations="float8"),
}


def master(quantizer: Quantizer, transposed: bool = False) -> MasterWeight:
    value = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    form = Form(quantizer.store, Reading(None, "reference"), "layer.weight", transposed)
    return MasterWeight.of(value.t().contiguous() if transposed else value, form)


def factors(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = (3 * torch.randn(2, 5, 64, generator=generator)).to(dtype).requires_grad_()
    return x, torch.randn(2, 5, 6, generator=generator).to(dtype)


def rounded_by_token(x: Tensor, largest: float, grid: torch.dtype) -> Tensor:
    """Activations as their format holds them, in float64, made apart from zolit's kernels."""
    scale = x.double().abs().amax(-1, keepdim=True) / largest
    codes = (x.double() / scale).float()
    return (codes.round() if grid == torch.int8 else codes.to(grid).float()).double() * scale


@pytest.mark.parametrize("name", QUANTIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_forward_is_the_product_of_the_stored_format(name: str, dtype: torch.dtype) -> None:
    weight, (x, _) = master(QUANTIZERS[name]), factors(dtype)
    stored = weight.rounded()
    assert torch.equal(stored.store.decoded(slice(0, 6)), weight.rounded().dense())
    with torch.no_grad():
        wanted = matmul(x, stored)
        assert torch.equal(F.linear(x, weight), wanted)
    out = F.linear(x, weight)
    assert torch.equal(out, wanted)
    assert out.dtype == dtype


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("name", QUANTIZERS)
def test_gradients_pass_straight_through(name: str, transposed: bool) -> None:
    """Those of a product of the rounded factors in float64, taken as those of the floats."""
    weight = master(QUANTIZERS[name], transposed)
    x, gradient = factors()
    if transposed:
        out = torch.addmm(torch.zeros(6), x.flatten(0, 1), weight).view(2, 5, 6)
    else:
        out = F.linear(x, weight)
    out.backward(gradient)
    read = {
        "w8a8": lambda: rounded_by_token(x.detach(), 127, torch.int8),
        "float8, activations": lambda: rounded_by_token(x.detach(), 448, torch.float8_e4m3fn),
    }
    inputs = read.get(name, lambda: x.detach().double())().requires_grad_()
    matrix = weight.rounded().store.decoded(slice(0, 6)).double().requires_grad_()
    (inputs @ matrix.T).backward(gradient.double())
    assert x.grad is not None
    assert weight.grad is not None
    assert inputs.grad is not None
    assert matrix.grad is not None
    mine = weight.grad.mT if transposed else weight.grad
    torch.testing.assert_close(x.grad.double(), inputs.grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine.double(), matrix.grad, rtol=1e-4, atol=1e-4)


def test_a_float32_master_of_bfloat16_activations() -> None:
    weight, (x, gradient) = master(Int8()), factors(torch.bfloat16)
    F.linear(x, weight).backward(gradient)
    assert weight.grad is not None
    assert x.grad is not None
    assert (weight.grad.dtype, x.grad.dtype) == (torch.float32, torch.bfloat16)


def test_an_optimizer_moves_the_floats() -> None:
    """Steps far below a code add up: the codes change when the floats have come far enough."""
    weight, (x, gradient) = master(Int8()), factors()
    before = weight.data.clone()
    codes = weight.rounded().store.tensors()["codes"].clone()
    made = torch.optim.AdamW([weight], lr=1e-4, weight_decay=0.0)
    for _ in range(3):
        made.zero_grad()
        F.linear(x, weight).backward(gradient)
        made.step()
    moved = (weight.data - before).abs()
    assert 2e-4 < float(moved.max()) < 4e-4
    scale = float(weight.rounded().store.scales()["scale"].max())
    assert float(moved.max()) < scale / 10
    changed = weight.rounded().store.tensors()["codes"] != codes
    assert 0 < int(changed.sum()) < 64


def test_only_what_products_need_is_kept() -> None:
    """The inputs and the floats themselves, but no rounded weight."""
    weight, (x, _) = master(Int4(32)), factors()
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        F.linear(x, weight)
    assert {one.untyped_storage().data_ptr() for one in kept} == {
        x.untyped_storage().data_ptr(),
        weight.untyped_storage().data_ptr(),
    }


def test_other_uses_are_refused() -> None:
    weight = master(Int8())
    with pytest.raises(UserError, match=r"layer\.weight is used by the model in matmul"):
        torch.matmul(torch.ones(2, 6), weight)
    with pytest.raises(UserError, match=r"layer\.weight is used by the model in mul"):
        _ = weight * 2
    with pytest.raises(UserError, match="no plain factor of a linear layer"):
        F.linear(weight, torch.ones(3, 64))
    assert weight.grad is None
    assert weight.detach().shape == (6, 64)


def test_a_copy_and_a_move_keep_the_form() -> None:
    layer = nn.Linear(64, 6, bias=False)
    layer._parameters["weight"] = master(Int8())
    other = copy.deepcopy(layer)
    assert isinstance(other.weight, MasterWeight)
    x, _ = factors()
    with torch.no_grad():
        other.weight.mul_(2)
        assert torch.equal(other(x), layer(x) * 2), "a scale that is twice as large"
        assert isinstance(layer.to("cpu").double().weight, MasterWeight)
