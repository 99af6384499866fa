"""Perturb a product by a direction of low rank."""

from torch import Tensor

from zolit.kernels.dispatch import kernel


@kernel
def add_low_rank(
    out: Tensor, x: Tensor, scale: Tensor | None, lengths: Tensor, left: Tensor, right: Tensor
) -> None:
    """``out += lengths * (scale * x @ right.T) @ left``.

    In float32: bfloat16 has too few digits to tell 1 + 1e-3 from 1. A product with so few columns
    is a pass over ``x``; as a matrix product it takes three times as long.

    Args:
        out: ``[C, M, N]`` float, overwritten.
        x: ``[C, M, K]`` float or int8.
        scale: ``[C, M, 1]`` float32, factor of each row of ``x``; None for 1.
        lengths: ``[C, 1, 1]`` float32.
        left: ``[rank, N]`` float32.
        right: ``[rank, K]`` float32.
    """
    inner = lengths * (x.float().unsqueeze(2) * right).sum(3)
    if scale is not None:
        inner = inner * scale
    out.copy_((out.float() + (inner.unsqueeze(3) * left).sum(2)).to(out.dtype))
