"""The end of every read kernel: decoded values, plus and minus a direction."""

from torch import Tensor

from zolit.kernels.along import coordinates_along
from zolit.kernels.arguments import Perturbation, Stored
from zolit.noise import check_lanes


def scaled(codes: Tensor, stored: Stored) -> Tensor:
    """``codes * scale + zero`` in float32, shaped like the codes.

    Raises:
        ValueError: if the rows have no scale.
    """
    if stored.scale is None:
        raise ValueError("codes cannot be decoded without a scale")
    value = codes.float() * stored.scale
    return value if stored.zero is None else value + stored.zero


def write_versions(
    value: Tensor, stored: Stored, outs: list[Tensor], noise: Perturbation | None
) -> None:
    """``outs = value +- (amplitude[0] * scale + amplitude[1]) * z``; without noise ``value``.

    Args:
        value: ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]`` float32 decoded values.
        stored: the rows that the values belong to.
        outs: one or two tensors of the same shape, of any float dtype, written. The first gets the
            value at plus and the second at minus; without noise both get the value.
        noise: the direction, with the bits of these rows; None for none.
    """
    check_lanes(value)
    if noise is None:
        for out in outs:
            out.copy_(value.to(out.dtype))
        return
    length = noise.amplitude[1]
    if stored.scale is not None:
        length = noise.amplitude[0] * stored.scale + length
    z = coordinates_along(noise, stored.rows, value.shape[1], value.shape[2])
    move = length * z.view(value.shape)
    outs[0].copy_((value + move).to(outs[0].dtype))
    if len(outs) == 2:
        outs[1].copy_((value - move).to(outs[1].dtype))
