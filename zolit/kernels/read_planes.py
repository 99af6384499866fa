"""Decode rows of a weight whose codes are stored in planes of bits, perturbed.

Codes of n bits take n words of 32 bits for the 32 columns of a word: bit ``lane`` of word k is bit
k of the code in column ``lane``. Any n wastes no bit, 3 included, and no code crosses a word.
"""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction, lane_indices


def unpack_planes(planes: Tensor) -> Tensor:
    """Codes of bit planes: ``[..., n]`` int32 as ``[..., 32]`` int32 in [0, 2**n - 1].

    Raises:
        ValueError: for more than 8 planes. Under compilation this fixes their number, so that the
            sum over them is unrolled.
    """
    count = planes.shape[-1]
    if count not in (1, 2, 3, 4, 5, 6, 7, 8):
        raise ValueError(f"codes have 1 to 8 bits, got {count}")
    place = torch.arange(0, count, 1, dtype=torch.int32, device=planes.device)
    bit = (planes.unsqueeze(-2) >> lane_indices(planes.device).unsqueeze(1)) & 1
    return (bit << place).sum(-1, dtype=torch.int32)


def pack_planes(codes: Tensor, count: int) -> Tensor:
    """`unpack_planes` undone: ``[..., 32]`` int32 codes as ``[..., count]`` int32 planes."""
    place = torch.arange(0, count, 1, dtype=torch.int32, device=codes.device)
    bit = (codes.unsqueeze(-1) >> place) & 1
    return (bit << lane_indices(codes.device).unsqueeze(1)).sum(-2, dtype=torch.int32)


@kernel
def read_planes(
    planes: Tensor,
    scale: Tensor,
    zero: Tensor,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction | None = None,
    control: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        planes: ``[R, G, W, n]`` int32; G groups of W words of 32 columns.
        scale: ``[R, G, 1, 1]`` float32.
        zero: ``[R, G, 1, 1]`` float32, value of code 0.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 32]`` float tensors.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[0] * scale + amplitude[1]
    value = unpack_planes(planes).float() * scale + zero
    store_copies(value, outs, rows, direction, control, length)
