"""Layers as quantizers write them to disk, made from known codes, and their weights in float64."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zolit.models.loading.prequantized.gptq import GptqFormat
from zolit.models.loading.prequantized.layer import LayerTensors


def stream_of_bits(codes: np.ndarray, bits: int) -> np.ndarray:
    """``[K, N]`` codes as ``[ceil(K * bits / 32), N]`` int32 words, by numpy's bit packing."""
    planes = (codes[:, None, :] >> np.arange(bits)[None, :, None]) & 1
    flat = planes.reshape(-1, codes.shape[1]).astype(np.uint8)
    flat = np.pad(flat, ((0, -len(flat) % 32), (0, 0)))
    raw = np.packbits(flat, axis=0, bitorder="little")
    return np.ascontiguousarray(raw.T).view("<i4").T.copy()


@dataclass
class GptqLayer:
    """Tensors of a GPTQ layer with its numbers: codes, zeros and group of each column."""

    tensors: dict[str, Tensor]
    form: GptqFormat
    weight: np.ndarray


def gptq_layer(
    bits: int = 4,
    rows: int = 64,
    columns: int = 96,
    group_size: int = 32,
    act_order: bool = False,
    v2: bool = True,
    seed: int = 0,
    zero_low: int | None = None,
) -> GptqLayer:
    """A random layer. In the first format no zero point is 0: its packer could not store it."""
    draw = np.random.default_rng(seed)
    size = columns if group_size == -1 else group_size
    groups = columns // size
    codes = draw.integers(0, 2**bits, (columns, rows))
    low = (0 if v2 else 1) if zero_low is None else zero_low
    zeros = draw.integers(low, 2**bits, (groups, rows))
    scales = draw.uniform(0.01, 0.1, (groups, rows)).astype(np.float16)
    group = np.arange(columns) // size
    if act_order:
        group = draw.permutation(group)
    stored = zeros if v2 else (zeros - 1) % 2**bits
    tensors = {
        "qweight": torch.from_numpy(stream_of_bits(codes, bits)),
        "qzeros": torch.from_numpy(stream_of_bits(stored.T, bits).T.copy()),
        "scales": torch.from_numpy(scales),
        "g_idx": torch.from_numpy(group.astype(np.int32)),
    }
    weight = scales.astype(np.float64)[group] * (codes - zeros[group])
    return GptqLayer(tensors, GptqFormat(bits, group_size, not v2), weight.T)


def aqlm_layer(
    codebooks: int, bits: int, rows: int = 24, columns: int = 64, group: int = 8, seed: int = 0
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Tensors of a random AQLM layer and its weight."""
    draw = np.random.default_rng(seed)
    books = draw.standard_normal((codebooks, 2**bits, 1, group)).astype(np.float16)
    index = draw.integers(0, 2**bits, (rows, columns // group, codebooks))
    scales = draw.uniform(0.5, 2.0, (rows, 1, 1, 1)).astype(np.float16)
    wrapped = np.where(index >= 2 ** (bits - 1), index - 2**bits, index)
    tensors = {
        "codes": torch.from_numpy(wrapped.astype(np.int8 if bits <= 8 else np.int16)),
        "codebooks": torch.from_numpy(books),
        "scales": torch.from_numpy(scales),
    }
    weight = np.zeros((rows, columns))
    for row in range(rows):
        for place in range(columns // group):
            vector = sum(
                books[m, index[row, place, m], 0].astype(np.float64) for m in range(codebooks)
            )
            weight[row, place * group : (place + 1) * group] = scales[row, 0, 0, 0] * vector
    return tensors, weight


def layer(tensors: dict[str, Tensor]) -> LayerTensors:
    return LayerTensors("blocks.0.up", "folder/model.safetensors", tensors, "quant_method=gptq")
