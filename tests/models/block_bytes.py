"""Random blocks of GGUF's formats: any bytes, but for the float16 numbers among them."""

import numpy as np
from gguf import GGML_QUANT_SIZES
from gguf import GGMLQuantizationType as Kind

SCALES = {
    Kind.Q4_0: (0,),
    Kind.Q4_1: (0, 2),
    Kind.Q5_0: (0,),
    Kind.Q5_1: (0, 2),
    Kind.Q8_0: (0,),
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
}
"""Bytes at which a block holds a float16 (ggml's ggml-common.h)."""


def random_blocks(kind: Kind, rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """``[rows, bytes]`` uint8; the weights are of the size of a trained model's."""
    block, size = GGML_QUANT_SIZES[kind]
    draw = np.random.default_rng([seed, int(kind)])
    data = draw.integers(0, 256, (rows, columns // block, size), dtype=np.uint8)
    for place in SCALES[kind]:
        scale = draw.normal(size=(rows, columns // block, 1), scale=2.0 ** -(5 + block // 64))
        data[:, :, place : place + 2] = scale.astype(np.float16).view(np.uint8)
    return data.reshape(rows, -1)
