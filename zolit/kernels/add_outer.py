"""Perturb a product by a direction of low rank."""

from torch import Tensor

from zolit.kernels.dispatch import kernel


@kernel
def add_outer(out: Tensor, inner: Tensor, left: Tensor) -> None:
    """``out += inner @ left``, in float32: bfloat16 has too few digits to tell 1 + 1e-3 from 1.

    Args:
        out: ``[C, M, N]`` float, overwritten.
        inner: ``[C, M, rank]`` float32.
        left: ``[rank, N]`` float32.
    """
    out.copy_((out.float() + (inner.unsqueeze(-1) * left).sum(2)).to(out.dtype))
