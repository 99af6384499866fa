"""Decode rows of a weight of codebook vectors."""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import check_lanes, lane_indices


@kernel
def read_codebook(codes: Tensor, codebooks: Tensor, scale: Tensor, out: Tensor) -> None:
    """``out = scale * sum_m codebooks[m, codes[..., m]]``.

    Args:
        codes: ``[R, W, V, M]`` int8 or int16: W words of V vectors of 32 / V columns; the low bits
            are an index into each of the M codebooks.
        codebooks: ``[M, size, 32 / V]`` float; the size is a power of two.
        scale: ``[R, 1, 1]`` float32.
        out: ``[R, W, 32]`` float, written.
    """
    check_lanes(out)
    count, size, width = codebooks.shape
    lane = lane_indices(codes.device)
    vector = lane // width
    book = torch.arange(count, dtype=torch.int32, device=codes.device).unsqueeze(1)
    # [R, W, 32, M]: the index that each column reads, in each codebook.
    index = codes.to(torch.int32)[:, :, vector] & (size - 1)
    place = (book.squeeze(1) * size + index) * width + (lane - vector * width).unsqueeze(1)
    value = codebooks.reshape(-1)[place].float().sum(-1)
    out.copy_((value * scale).to(out.dtype))
