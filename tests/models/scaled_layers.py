"""Layers of float8, int8, packed and AWQ codes as their quantizers write them, from known codes,
and their weights in float64."""

from typing import Any

import numpy as np
import torch
from checkpoint_layers import stream_of_bits
from torch import Tensor

E4M3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).double().numpy()
"""Value of each byte, by torch's own conversion."""


def bytes_of_e4m3(draw: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Random codes, every one of them but the two that are no number."""
    codes = draw.integers(0, 254, (rows, columns))
    return np.where(codes >= 127, codes + 1, codes).astype(np.uint8)


def scale_of_each(scale: np.ndarray, block: tuple[int, int], rows: int, columns: int) -> np.ndarray:
    """``[rows, columns]``: the scale of each weight, looked up one by one."""
    height, width = block
    return np.array([[scale[n // height, k // width] for k in range(columns)] for n in range(rows)])


def scaled_layer(
    rows: int,
    columns: int,
    block: tuple[int, int],
    kind: str = "float8",
    exponents: bool = False,
    points: bool = False,
    seed: int = 0,
) -> tuple[dict[str, Tensor], np.ndarray]:
    """``weight``, ``weight_scale`` and, with points, ``weight_zero_point``; and the weight.

    Args:
        rows: outputs.
        columns: inputs.
        block: rows and columns that share a scale.
        kind: float8 or int8.
        exponents: scales are exponents of two, in bytes.
        points: int8 codes have zero points.
        seed: of the draws.
    """
    draw = np.random.default_rng(seed)
    grid = -(-rows // block[0]), -(-columns // block[1])
    if exponents:
        raw = draw.integers(115, 125, grid).astype(np.uint8)
        scale, stored = 2.0 ** (raw.astype(np.float64) - 127), torch.from_numpy(raw)
    else:
        stored = torch.from_numpy(draw.uniform(1e-3, 1e-2, grid)).bfloat16()
        scale = stored.double().numpy()
    zero = np.zeros(grid)
    if kind == "float8":
        raw = bytes_of_e4m3(draw, rows, columns)
        codes, values = torch.from_numpy(raw).view(torch.float8_e4m3fn), E4M3[raw]
    else:
        values = draw.integers(-128, 128, (rows, columns))
        codes = torch.from_numpy(values.astype(np.int8))
    tensors = {"weight": codes, "weight_scale": stored}
    if points:
        zero = draw.integers(-128, 128, grid)
        tensors["weight_zero_point"] = torch.from_numpy(zero.astype(np.int8))
    spread = [scale_of_each(one, block, rows, columns) for one in (scale, zero)]
    return tensors, spread[0] * (values - spread[1])


def packed_layer(
    bits: int, rows: int, columns: int, group: int, symmetric: bool, scattered: bool = False
) -> tuple[dict[str, Tensor], np.ndarray]:
    """Tensors of a pack-quantized layer of compressed-tensors, and its weight."""
    draw = np.random.default_rng(bits)
    groups, half = columns // group, 2 ** (bits - 1)
    codes = draw.integers(-half, half, (rows, columns))
    zero = (
        np.zeros((rows, groups), int) if symmetric else draw.integers(-half, half, (rows, groups))
    )
    scale = torch.from_numpy(draw.uniform(1e-3, 1e-2, (rows, groups))).bfloat16()
    index = np.arange(columns) // group
    tensors = {
        "weight_packed": torch.from_numpy(stream_of_bits((codes + half).T, bits).T.copy()),
        "weight_scale": scale,
        "weight_shape": torch.tensor([rows, columns]),
    }
    if not symmetric:
        tensors["weight_zero_point"] = torch.from_numpy(stream_of_bits(zero + half, bits))
    if scattered:
        index = draw.permutation(index)
        tensors["weight_g_idx"] = torch.from_numpy(index.astype(np.int32))
    return tensors, scale.double().numpy()[:, index] * (codes - zero[:, index])


def awq_layer(rows: int, columns: int, group: int) -> tuple[dict[str, Tensor], np.ndarray]:
    """Tensors of an AWQ layer packed as AutoAWQ packs it (gemm), and its weight."""
    order = (0, 2, 4, 6, 1, 3, 5, 7)  # the output that goes into each nibble

    def pack(codes: np.ndarray) -> Tensor:
        words = np.zeros((codes.shape[0], codes.shape[1] // 8), np.uint32)
        for word in range(words.shape[1]):
            for nibble, place in enumerate(order):
                words[:, word] |= codes[:, 8 * word + place].astype(np.uint32) << (4 * nibble)
        return torch.from_numpy(words.view(np.int32))

    draw = np.random.default_rng(1)
    codes = draw.integers(0, 16, (columns, rows))
    zeros = draw.integers(0, 16, (columns // group, rows))
    scales = draw.uniform(1e-3, 1e-2, zeros.shape).astype(np.float16)
    tensors = {"qweight": pack(codes), "qzeros": pack(zeros), "scales": torch.from_numpy(scales)}
    index = np.arange(columns) // group
    return tensors, (scales.astype(np.float64)[index] * (codes - zeros[index])).T


def compressed(name: str, activations: Any = None, **weights: Any) -> dict[str, Any]:
    """What llm-compressor writes for one group of all linear layers."""
    kind = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True, **weights}
    group = {"targets": ["Linear"], "weights": kind, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "format": name,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
    }
