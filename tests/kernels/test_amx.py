"""Products on the tiles of a CPU against torch's integer product and the kernel that scales it."""

import pytest
import torch
from torch import Tensor

from zolit.kernels.activations import scale_product
from zolit.kernels.cpu.amx import fits_tiles, tile_product, tiles_found

needs_tiles = pytest.mark.skipif(not tiles_found(), reason="this CPU has no AMX")


def factors(
    tokens: int, outputs: int, columns: int, padding: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes, scale of each token, weight within rows of ``padding`` more, scale of each output."""
    generator = torch.Generator().manual_seed(tokens + outputs + columns)
    integers = {"generator": generator, "dtype": torch.int8}
    codes = torch.randint(-128, 128, (tokens, columns), **integers)
    weight = torch.randint(-128, 128, (outputs, columns + padding), **integers)[:, :columns]
    row_scale = torch.rand(tokens, 1, generator=generator)
    column_scale = torch.rand(outputs, 1, 1, 1, generator=generator)
    return codes, row_scale, weight, column_scale


@needs_tiles
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("tokens", "outputs", "columns"),
    [(32, 32, 64), (64, 96, 128), (33, 32, 64), (32, 47, 64), (45, 77, 192), (500, 61, 576)],
)
def test_same_bits_as_two_passes(
    tokens: int, outputs: int, columns: int, dtype: torch.dtype
) -> None:
    codes, row_scale, weight, column_scale = factors(tokens, outputs, columns)
    expected = torch.empty(tokens, outputs, dtype=dtype)
    scale_product.reference(torch._int_mm(codes, weight.t()), row_scale, column_scale, expected)
    got = torch.full_like(expected, torch.nan)
    tile_product(codes, row_scale, weight, column_scale, got)
    assert torch.equal(got, expected)


@needs_tiles
def test_a_padded_weight_into_columns_of_a_wider_result() -> None:
    codes, row_scale, weight, column_scale = factors(40, 50, 64, padding=32)
    wide = torch.full((40, 90), torch.nan)
    tile_product(codes, row_scale, weight, column_scale, wide[:, 20:70])
    exact = (codes.double() @ weight.double().t()) * row_scale * column_scale.view(-1)
    torch.testing.assert_close(wide[:, 20:70].double(), exact, rtol=1e-6, atol=0.0)
    assert wide[:, :20].isnan().all()
    assert wide[:, 70:].isnan().all()


@needs_tiles
@pytest.mark.parametrize("value", [1e-39, 3e38, float("inf"), float("nan")])
def test_extremes_round_as_torch_rounds(value: float) -> None:
    """Subnormal numbers stay, what overflows is infinite, and what is no number stays none."""
    codes, row_scale, weight, column_scale = factors(32, 32, 64)
    row_scale.fill_(value)
    expected = torch.empty(32, 32, dtype=torch.bfloat16)
    scale_product.reference(torch._int_mm(codes, weight.t()), row_scale, column_scale, expected)
    got = torch.empty_like(expected)
    tile_product(codes, row_scale, weight, column_scale, got)
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(), expected.nan_to_num())


@needs_tiles
def test_what_does_not_fit_is_told() -> None:
    codes, _, weight, _ = factors(32, 32, 64)
    out = torch.empty(32, 32, dtype=torch.bfloat16)
    assert fits_tiles(codes, weight, out, "compiled")
    assert not fits_tiles(codes, weight, out, "reference")
    assert not fits_tiles(codes[:31], weight, out[:31], "compiled")
    assert not fits_tiles(codes, weight[:31], out[:, :31], "compiled")
    assert not fits_tiles(codes[:, :32], weight[:, :32], out, "compiled")
    assert not fits_tiles(codes, weight, out.half(), "compiled")
