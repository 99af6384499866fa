"""Perturb a product by one factor for each output channel."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, coordinates


@kernel
def output_factors(
    factors: list[Tensor], rows: Tensor, direction: Direction, control: Tensor, amplitude: Tensor
) -> None:
    """``1 + amplitude * z`` into the first and, if there are two, ``1 - ...`` into the second.

    Args:
        factors: one or two ``[W, 1, 1, 32]`` float32, written: words of the weights' factors.
        rows: ``[W]`` int32 number of each word within its weight.
        direction: distribution.
        control: ``[W, 8]`` int32 key words of each word's weight.
        amplitude: ``[W, 1, 1, 1]`` float32, length of the unit as a fraction of the scale.
    """
    check_lanes(factors[0])
    move = amplitude * coordinates(direction, control, rows, 1, factors[0].shape[2])
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
