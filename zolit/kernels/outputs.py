"""Perturb a product by a factor for each output channel, or by a direction of low rank."""

from torch import Tensor

from zolit.kernels.along import coordinates_along
from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import kernel
from zolit.noise import check_lanes


@kernel
def output_factors(factors: list[Tensor], rows: Tensor, noise: Perturbation) -> None:
    """``factors[0] = 1 + amplitude * z`` and, if there are two, ``factors[1] = 1 - amplitude * z``.

    The factors of many weights are made together, in W words of 32.

    Args:
        factors: one or two ``[W, 1, 1, 32]`` float32, written.
        rows: ``[W]`` int32 number of each word within its weight.
        noise: ``control`` is ``[W, K]``, the key words of each word's weight; ``amplitude`` is
            ``[W, 1, 1, 1]``, eps as a fraction of the scale; ``bits`` is ``[W, 1]`` or None;
            ``curvature`` is ``[W, 32]`` or None.
    """
    check_lanes(factors[0])
    z = coordinates_along(noise, rows, 1, factors[0].shape[2])
    move = noise.amplitude * z
    factors[0].copy_(1.0 + move)
    if len(factors) == 2:
        factors[1].copy_(1.0 - move)


@kernel
def scale_outputs(out: Tensor, factors: Tensor) -> None:
    """``out *= factors``, in float32: bfloat16 has too few digits to tell 1 + 1e-3 from 1.

    Args:
        out: ``[C, M, N]`` float, overwritten.
        factors: ``[C, 1, N]`` float32.
    """
    out.copy_((out.float() * factors).to(out.dtype))


@kernel
def add_low_rank(
    out: Tensor, x: Tensor, scale: Tensor | None, lengths: Tensor, left: Tensor, right: Tensor
) -> None:
    """``out += lengths * (scale * x @ right.T) @ left``.

    In float32: bfloat16 has too few digits to tell 1 + 1e-3 from 1. The product with the few rows
    of ``right`` is written as a sum over one pass through ``x``; as a matrix product it takes three
    times as long.

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
