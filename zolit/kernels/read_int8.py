"""Decode rows of an int8 weight, perturbed."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction


@kernel
def read_int8(
    codes: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction | None = None,
    control: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        codes: ``[R, G, W, 32]`` int8; G groups of W words of columns.
        scale: ``[R, G, 1, 1]`` float32.
        zero: ``[R, G, 1, 1]`` float32, value of code 0; None where it is 0 everywhere.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 32]`` float tensors.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[0] * scale + amplitude[1]
    value = codes.float() * scale
    if zero is not None:
        value = value + zero
    store_copies(value, outs, rows, direction, control, length)
