"""What the read kernels share: the perturbation they add and the way they store it."""

from dataclasses import dataclass

from torch import Tensor

from zolit.noise import Direction, check_lanes, coordinates


@dataclass(frozen=True)
class Perturbation:
    """The direction that a read adds to one weight.

    Attributes:
        direction: distribution of its coordinates.
        control: ``[8]`` int32 key words of this weight (`zolit.noise.control_words`).
        amplitude: ``[2]`` float32: length of a unit step in code units and in weight units;
            a stored code with scale s moves by ``(amplitude[0] * s + amplitude[1]) * z``.
    """

    direction: Direction
    control: Tensor
    amplitude: Tensor


def noise_arguments(
    perturbation: Perturbation | None,
) -> tuple[()] | tuple[Direction, Tensor, Tensor]:
    """The last arguments of a read kernel: direction, control and amplitude, or nothing."""
    if perturbation is None:
        return ()
    return perturbation.direction, perturbation.control, perturbation.amplitude


def store_copies(
    value: Tensor,
    outs: list[Tensor],
    rows: Tensor,
    direction: Direction | None,
    control: Tensor | None,
    length: Tensor | None,
) -> None:
    """Write ``value + length * z`` to ``outs[0]`` and, if there are two, ``value - length * z``
    to ``outs[1]``; without a direction write ``value``.

    Args:
        value: ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]`` float32 decoded values.
        outs: one or two tensors of the same shape, any float dtype.
        rows: ``[R]`` int32 row indices.
        direction: distribution or None.
        control: ``[8]`` int32 or None.
        length: float32, broadcast against ``value``: step for a unit coordinate.
    """
    check_lanes(value)
    if direction is None or control is None or length is None:
        outs[0].copy_(value.to(outs[0].dtype))
        return
    z = coordinates(direction, control, rows, value.shape[1], value.shape[2])
    move = length * z.view(value.shape)
    outs[0].copy_((value + move).to(outs[0].dtype))
    if len(outs) == 2:
        outs[1].copy_((value - move).to(outs[1].dtype))
