"""Perturb a product by one factor for each output channel."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, coordinates


@kernel
def output_factors(
    factors: Tensor, rows: Tensor, direction: Direction, control: Tensor, amplitude: Tensor
) -> None:
    """``factors[0] = 1 + amplitude[1] * z`` and, if there are two, ``factors[1] = 1 - ...``.

    Args:
        factors: ``[C, 1, W, 32]`` float32 for C = 1 or 2 copies, written.
        rows: ``[1]`` int32 zero: the factors of a weight are the first row of its noise.
        direction: distribution.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    check_lanes(factors)
    move = amplitude[1] * coordinates(direction, control, rows, 1, factors.shape[2])
    factors[:1].copy_(1.0 + move)
    if factors.shape[0] == 2:
        factors[1:].copy_(1.0 - move)


@kernel
def scale_outputs(out: Tensor, factors: Tensor) -> None:
    """``out *= factors``, in float32: bfloat16 has too few digits to tell 1 + 1e-3 from 1.

    Args:
        out: ``[C, M, N]`` float, overwritten.
        factors: ``[C, 1, N]`` float32.
    """
    out.copy_((out.float() * factors).to(out.dtype))
