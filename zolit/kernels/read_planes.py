"""Decode rows of a weight whose codes are stored in planes of bits, perturbed.

Codes of n bits are n planes. Of a word of 32 columns plane k holds one int32, in which bit
``lane`` is bit k of the code in column ``lane``. Any n wastes no bit, 3 included, and no code
crosses a word.
"""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction, lane_indices


def unpack_planes(planes: list[Tensor]) -> Tensor:
    """Codes of n planes ``[..., 1]`` int32: ``[..., 32]`` int32 in [0, 2**n - 1]."""
    lane = lane_indices(planes[0].device)
    codes = (planes[0] >> lane) & 1
    for place, plane in enumerate(planes[1:], start=1):
        # Not as a sum over a dimension, which inductor does not vectorize: 300 times slower.
        codes = codes | (((plane >> lane) & 1) << place)
    return codes


def pack_planes(codes: Tensor, bits: int) -> list[Tensor]:
    """`unpack_planes` undone: ``[..., 32]`` int32 codes as ``bits`` planes ``[..., 1]`` int32."""
    lane = lane_indices(codes.device)
    return [
        (((codes >> place) & 1) << lane).sum(-1, keepdim=True, dtype=codes.dtype)
        for place in range(bits)
    ]


def lanes_like(codes: Tensor, scale: Tensor) -> Tensor:
    """``[R, G, W, 32]`` codes as they meet their scales: in halves where each half has its own."""
    return codes.unflatten(-1, (2, 16)) if scale.dim() == 5 else codes


@kernel
def read_planes(
    planes: list[Tensor],
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
        planes: ``n`` times ``[R, G, W, 1]`` int32; G groups of W words of 32 columns.
        scale: ``[R, G, 1, 1]`` float32; or ``[R, W, 1, 2, 1]``, one for each half of a word, with
            ``outs`` in halves alike.
        zero: like ``scale``, value of code 0; None where code ``2**(n - 1)`` is 0.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 32]`` or ``[R, W, 1, 2, 16]`` float tensors.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[0] * scale + amplitude[1]
    codes = lanes_like(unpack_planes(planes), scale)
    if zero is None:
        value = (codes - 2 ** (len(planes) - 1)).float() * scale
    else:
        value = codes.float() * scale + zero
    store_copies(value, outs, rows, direction, control, length)
