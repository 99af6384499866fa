"""Blocks of GGUF, kept as they are: what the gguf package's dequantizer makes of them."""

import numpy as np
import pytest
import torch
from block_bytes import SCALES, random_blocks
from gguf import GGMLQuantizationType as Kind
from gguf import dequantize
from gguf.quants import quantize

from zolit.formats.base import StoredWeight
from zolit.models.gguf.blocks import BlockCodes, block_weight
from zolit.models.gguf.read_blocks import READERS, read_blocks

ROWS, COLUMNS = 7, 768
FORMATS = {
    Kind.Q4_0: ("Int4Weight", 5.0),
    Kind.Q4_1: ("Int4Weight", 6.0),
    Kind.Q5_0: ("GroupedWeight of 5 bits", 6.0),
    Kind.Q5_1: ("GroupedWeight of 5 bits", 7.0),
    Kind.Q8_0: ("Int8Weight", 9.0),
    Kind.Q2_K: ("HalfWordWeight of 2 bits", 6.0),
    Kind.Q3_K: ("HalfWordWeight of 3 bits", 5.0),
    Kind.Q4_K: ("Int4Weight", 6.0),
    Kind.Q5_K: ("GroupedWeight of 5 bits", 7.0),
    Kind.Q6_K: ("HalfWordWeight of 6 bits", 8.0),
}
"""What holds each, and its bits a weight with scales."""


def decoded(store: StoredWeight) -> np.ndarray:
    out = torch.empty(store.rows, store.columns)
    store.read(slice(0, store.rows), [out], None, "reference")
    return out.numpy()


def kept(data: np.ndarray, kind: Kind) -> StoredWeight:
    return block_weight(read_blocks(torch.from_numpy(data), kind))


def largest_term(found: BlockCodes) -> np.ndarray:
    """Of each weight: what float32 rounding is relative to."""
    size = found.scale.abs() * 2.0**found.bits
    size = size if found.zero is None else size + found.zero.abs()
    return size.repeat_interleave(COLUMNS // size.shape[1], 1).numpy()


def test_every_reader_has_a_case() -> None:
    assert READERS.keys() == FORMATS.keys() == SCALES.keys()


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_random_blocks(kind: Kind) -> None:
    data = random_blocks(kind, ROWS, COLUMNS)
    store, expected = kept(data, kind), dequantize(data, kind)
    found = read_blocks(torch.from_numpy(data), kind)
    assert (np.abs(decoded(store) - expected) <= 2.0**-23 * largest_term(found)).all()
    if found.zero is None:  # nothing is added that could be rounded
        np.testing.assert_array_equal(decoded(store), expected)
    assert int(found.codes.max()) == 2**found.bits - 1
    assert (found.scale < 0).any()
    held = sum(t.numel() * t.element_size() for t in store.tensors().values())
    assert (store.describe()["format"], 8 * held / (ROWS * COLUMNS)) == FORMATS[kind]


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0])
def test_blocks_of_the_packages_quantizer(kind: Kind) -> None:
    """Weights of a normal distribution, one row of zeros and one of a single value."""
    values = np.random.default_rng(1).normal(size=(ROWS, COLUMNS)).astype(np.float32)
    values[2], values[3] = 0.0, 0.75
    data = quantize(values, kind)
    store, expected = kept(data, kind), dequantize(data, kind)
    np.testing.assert_allclose(decoded(store), expected, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(decoded(store)[2], 0)
    # Steps in units of the weight divide by scales.
    assert all((scale.abs() >= 1e-7).all() for n, scale in store.scales().items() if n == "scale")


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_groups_without_a_scale_keep_their_value(kind: Kind) -> None:
    data = random_blocks(kind, ROWS, COLUMNS)
    data[1:3, SCALES[kind][0] : SCALES[kind][0] + 2] = 0

    store, expected = kept(data, kind), dequantize(data, kind)
    assert (store.scale != 0).all()
    np.testing.assert_allclose(decoded(store), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
