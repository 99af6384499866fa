"""Quantize activations row by row, and scale the result of an integer product."""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel


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
        column_scale: ``[N, 1, 1, 1]`` float32, as weights keep the scales of their rows.
        out: ``[M, N]`` float, written.
    """
    out.copy_((product.float() * row_scale * column_scale.view(-1)).to(out.dtype))


def emulate_float8(x: Tensor) -> Tensor:
    """Each row rounded to e4m3 with a scale of ``max |x| / 448``; shape and dtype of ``x``.

    Stands for float8 activations on machines without float8 products: the numbers are those of
    the format, the product is taken in the dtype of ``x``.
    """
    value = x.float()
    scale = (value.abs().amax(dim=-1, keepdim=True) / 448.0).clamp(min=1e-12)
    return ((value / scale).to(torch.float8_e4m3fn).float() * scale).to(x.dtype)
