"""Half-quadratic quantization against torchao's implementation of it."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torchao.quantization.quant_primitives import optimize_weights_proximal_legacy

from zolit.errors import UserError
from zolit.strategies import HQQ, Int4
from zolit.strategies.quantizer.hqq import half_quadratic


def heavy_tailed(rows: int, columns: int) -> Tensor:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    return 0.05 * weight * (1 + weight.abs() ** 2)


def test_zero_points_are_those_of_torchao() -> None:
    """One group at a time: theirs stops all groups of a tensor together."""
    groups = heavy_tailed(12, 5 * 64).view(12, 5, 64)
    inverse, zero = half_quadratic(groups, 20, 0.7, 10.0, 1.01)
    for row in range(12):
        for group in range(5):
            one = groups[row, group].view(1, 64)
            low, high = one.min(), one.max()
            scale = (15 / (high - low)).view(1, 1)
            codes, their_scale, their_zero = optimize_weights_proximal_legacy(
                one, scale, torch.round(-low * scale), [0, 15], axis=1, device="cpu"
            )
            torch.testing.assert_close(inverse[row, group].view(1, 1), their_scale)
            torch.testing.assert_close(
                zero[row, group].view(1, 1), their_zero, rtol=1e-5, atol=1e-5
            )
            mine = torch.round(one * inverse[row, group] + zero[row, group]).clamp(0, 15)
            assert torch.equal(mine, codes)


def decoded(store: Any) -> Tensor:
    out = torch.empty(store.rows, store.padded_columns)
    store.read(slice(0, store.rows), [out], None, "reference")
    return out


def test_the_stored_weight_is_nearer_in_the_norm_that_is_minimized() -> None:
    weight = heavy_tailed(64, 256)
    errors = {}
    for quantizer in (Int4(64), HQQ(64)):
        rest = (decoded(quantizer.store(weight, "w")) - weight).abs()
        errors[type(quantizer).__name__] = rest.pow(0.7).mean().item()
    assert errors["HQQ"] < 0.97 * errors["Int4"]


def test_the_stored_weight_is_what_was_found() -> None:
    weight = heavy_tailed(3, 128)
    inverse, zero = half_quadratic(weight.view(3, 2, 64), 20, 0.7, 10.0, 1.01)
    codes = torch.round(weight.view(3, 2, 64) * inverse + zero).clamp(0, 15)
    wanted = ((codes - zero) / inverse).view(3, 128)
    torch.testing.assert_close(decoded(HQQ(64).store(weight, "w")), wanted)


def test_groups_of_equal_weights() -> None:
    weight = torch.zeros(2, 64)
    weight[1] = 0.25
    torch.testing.assert_close(decoded(HQQ(32).store(weight, "w")), weight, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("option", "value"), [("iterations", 0), ("norm", 1.5), ("beta", 0.0), ("kappa", 0.9)]
)
def test_bad_arguments(option: str, value: float) -> None:
    with pytest.raises(UserError, match=f"{option} must be .*, got {value}"):
        HQQ(**{option: value})


def test_groups_must_fit() -> None:
    with pytest.raises(UserError, match="group_size must divide the 96 input channels of w"):
        HQQ(64).store(torch.ones(2, 96), "w")
