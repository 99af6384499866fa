"""e4m3 by bit arithmetic: decoding equals torch's, encoding rounds stochastically."""

import math

import numpy as np
import pytest
import torch

from zolit.formats.float8 import decode_e4m3, emulate_float8, encode_e4m3

FINITE = torch.tensor([b for b in range(256) if b & 0x7F != 0x7F], dtype=torch.uint8)
VALUES = FINITE.view(torch.float8_e4m3fn).float()


def encode(value: torch.Tensor, draw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Decoded by torch, not by zolit, and whether it fits."""
    code, fits = encode_e4m3(value, draw)
    return (code & 0xFF).to(torch.uint8).view(torch.float8_e4m3fn).float(), fits


@pytest.mark.parametrize("compiled", [False, True])
def test_all_254_finite_codes_decode_as_torch_does(compiled: bool) -> None:
    decode = torch.compile(decode_e4m3) if compiled else decode_e4m3
    assert len(FINITE) == 254
    got = decode(FINITE.view(torch.int8))
    assert torch.equal(got.view(torch.int32), VALUES.view(torch.int32))


def test_grid_points_are_kept_whatever_the_draw() -> None:
    for draw in (0, 1, 1 << 19, (1 << 20) - 1):
        got, fits = encode(VALUES, torch.full((254,), draw, dtype=torch.int32))
        assert torch.equal(got, VALUES)
        assert fits.all()


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        (1.03, 1.0, 1.125),
        (-300.0, -288.0, -320.0),
        (0.0137, 0.013671875, 0.015625),
        (0.0154, 0.013671875, 0.015625),
        (0.0005, 0.0, 2.0**-9),
        (-1e-5, 0.0, -(2.0**-9)),
    ],
)
def test_rounding_up_has_the_odds_of_the_fraction(value: float, low: float, high: float) -> None:
    """All 2**20 draws: the share rounded up is the fraction, to the last draw."""
    draws = torch.arange(1 << 20, dtype=torch.int32)
    got, fits = encode(torch.full((1 << 20,), value), draws)
    assert fits.all()
    assert set(got.unique().tolist()) == {low, high}
    share = float((got == high).double().mean())
    fraction = (float(torch.tensor(value)) - low) / (high - low)
    assert math.isclose(share, fraction, abs_tol=2.0**-20)


@pytest.mark.parametrize("value", [481.0, 512.0, 1e4, 3e38, math.inf])
def test_values_out_of_range_do_not_fit(value: float) -> None:
    for draw in (0, (1 << 20) - 1):
        for sign in (1.0, -1.0):
            _, fits = encode(torch.tensor([sign * value]), torch.tensor([draw], dtype=torch.int32))
            assert not fits.any()


def test_a_value_past_the_largest_fits_only_if_rounded_down() -> None:
    draws = torch.tensor([0, (1 << 20) - 1], dtype=torch.int32)
    got, fits = encode(torch.full((2,), 449.0), draws)
    assert fits.tolist() == [True, False]
    assert got[0] == 448.0


def test_float8_activations_lie_on_the_grid() -> None:
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    scale = x.abs().amax(1, keepdim=True) / 448
    on_grid = (emulate_float8(x) / scale).double().numpy()
    distance = np.abs(np.abs(on_grid)[..., None] - np.abs(VALUES.double().numpy())).min(-1)
    assert (distance <= 1e-6 * np.abs(on_grid)).all()
    np.testing.assert_allclose(emulate_float8(x).numpy(), x.numpy(), rtol=2.0**-4, atol=1e-4)
