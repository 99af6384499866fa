"""Int8 activations with a scale for each row, and products of integers scaled to floats."""

from collections.abc import Callable

import torch
from torch import Tensor

from zolit.kernels.cpu.amx import fits_tiles, tile_product
from zolit.kernels.dispatch import Preference, kernel


@kernel
def quantize_rows(x: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Symmetric int8 codes of each row, rounded to nearest.

    Args:
        x: ``[M, K]`` float.
        codes: ``[M, K]`` int8, written.
        scale: ``[M, 1]`` float32, written: ``max |x| / 127`` of the row.
    """
    value = x.float()
    size = (value.abs().amax(dim=1, keepdim=True) * (1.0 / 127.0)).clamp(min=1e-12)
    scale.copy_(size)
    codes.copy_(torch.round(value / size).to(torch.int8))


@kernel
def scale_product(product: Tensor, row_scale: Tensor, column_scale: Tensor, out: Tensor) -> None:
    """``out = product * row_scale * column_scale``.

    Args:
        product: ``[M, N]`` int32.
        row_scale: ``[M, 1]`` float32.
        column_scale: ``[N, 1, 1, 1]`` float32: the scales of the weight's rows, as kernels take
            them.
        out: ``[M, N]`` float, written.
    """
    out.copy_((product.float() * row_scale * column_scale.view(-1)).to(out.dtype))


def quantize_activations(x: Tensor, preference: Preference) -> tuple[Tensor, Tensor]:
    """Quantize activations to int8, with a scale for each token.

    Args:
        x: ``[..., K]`` float.
        preference: kernel choice.

    Returns:
        ``[..., K]`` int8 codes and ``[..., 1]`` float32 scales.
    """
    rows = x.reshape(-1, x.shape[-1])
    codes = torch.empty(rows.shape, dtype=torch.int8, device=x.device)
    scale = torch.empty(len(rows), 1, dtype=torch.float32, device=x.device)
    quantize_rows(rows, codes, scale, preference=preference)
    return codes.view(x.shape), scale.view(*x.shape[:-1], 1)


def integer_product(
    codes: Tensor,
    scale: Tensor,
    weight: Tensor,
    column_scale: Tensor,
    out: Tensor,
    preference: Preference,
) -> None:
    """``out = scale * column_scale * (codes @ weight.T)`` by int8 x int8 -> int32.

    Args:
        codes: ``[M, K]`` int8.
        scale: ``[M, 1]`` float32.
        weight: ``[N, K]`` int8.
        column_scale: ``[N, 1, 1, 1]`` float32.
        out: ``[M, N]`` float, written.
        preference: kernel choice.
    """
    if fits_tiles(codes, weight, out, preference):
        tile_product(codes, scale, weight, column_scale, out)
    else:
        product = torch._int_mm(codes, weight.t())
        scale_product(product, scale, column_scale, out, preference=preference)


def integer_products(
    codes: Tensor,
    scale: Tensor,
    weights: list[Tensor],
    column_scale: Tensor,
    out: Tensor,
    buffer: Callable[[int, int], Tensor],
    preference: Preference,
) -> None:
    """`integer_product` of each version of a weight with its own part of the tokens.

    Args:
        codes: ``[C, M, K]`` int8, for C versions.
        scale: ``[C * M, 1]`` float32.
        weights: ``[N, K]`` int8 of each version.
        column_scale: ``[N, 1, 1, 1]`` float32.
        out: ``[C * M, N]`` float, written.
        buffer: returns int32 memory of a number of rows and columns, the same at each call: a
            product takes three times as long if it writes to memory that is not in the cache.
        preference: kernel choice.
    """
    copies, tokens, _ = codes.shape
    if fits_tiles(codes[0], weights[0], out, preference):
        scales, outs = scale.split(tokens), out.split(tokens)
        for one, size, weight, part in zip(codes, scales, weights, outs, strict=True):
            tile_product(one, size, weight, column_scale, part)
        return
    whole = buffer(copies * tokens, len(weights[0]))
    for one, weight, part in zip(codes, weights, whole.split(tokens), strict=True):
        torch._int_mm(one, weight.t(), out=part)
    scale_product(whole, scale, column_scale, out, preference=preference)
