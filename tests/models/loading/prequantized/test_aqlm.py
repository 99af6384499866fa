"""AQLM layers read back to the numbers that they were made from."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_layers import aqlm_layer, layer

from zolit.errors import UserError
from zolit.models.loading.prequantized.aqlm import AqlmFormat, CodebookCodes, read_aqlm
from zolit.models.loading.prequantized.declared_format import declared_format

CONFIG = {
    "quant_method": "aqlm",
    "in_group_size": 8,
    "out_group_size": 1,
    "num_codebooks": 2,
    "nbits_per_codebook": 8,
}


def decoded(found: CodebookCodes) -> np.ndarray:
    """``[rows, columns]`` float64."""
    size = found.codebooks.shape[1]
    index = found.codes.numpy().astype(np.int64) % size
    books = found.codebooks.double().numpy()
    vectors = sum(books[m][index[:, :, m]] for m in range(len(books)))
    return vectors.reshape(len(index), -1) * found.scale.double().numpy()[:, None]


@pytest.mark.parametrize(("codebooks", "bits", "group"), [(1, 16, 8), (2, 8, 8), (4, 5, 16)])
def test_every_weight_is_read(codebooks: int, bits: int, group: int) -> None:
    tensors, weight = aqlm_layer(codebooks, bits, group=group)
    found = read_aqlm(layer(tensors), AqlmFormat(codebooks, bits, group), 24, 64)
    np.testing.assert_allclose(decoded(found), weight, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("codes", lambda t: t[:, :-1], r"codes.*is \[24, 7, 2\] int8"),
        ("codes", lambda t: t.short(), r"codes.*int16, but"),
        ("codebooks", lambda t: t[:1], r"codebooks.*is \[1, 256, 1, 8\]"),
        ("codebooks", lambda t: t * torch.inf, "codebooks.*holds NaN or infinite numbers"),
        ("scales", lambda t: t * 0, "scales.*has 24 scales that are zero"),
        ("scales", lambda t: t[:3], r"scales.*is \[3, 1, 1, 1\]"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, change: Any, message: str) -> None:
    tensors, _ = aqlm_layer(2, 8)
    changed = {**tensors, name: change(tensors[name])}
    with pytest.raises(UserError, match=message):
        read_aqlm(layer(changed), AqlmFormat(2, 8, 8), 24, 64)


def test_columns_that_do_not_fit() -> None:
    tensors, _ = aqlm_layer(2, 8)
    with pytest.raises(UserError, match="has 60 columns, no multiple of 8"):
        read_aqlm(layer(tensors), AqlmFormat(2, 8, 8), 24, 60)


def test_declared_format() -> None:
    assert declared_format(CONFIG, "f") == AqlmFormat(2, 8, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("out_group_size", 2),
        ("in_group_size", 7),
        ("num_codebooks", 0),
        ("nbits_per_codebook", 17),
        ("nbits_per_codebook", None),
    ],
)
def test_other_variants_are_refused(key: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"has {key}={value}, expected"):
        declared_format({**CONFIG, key: value}, "folder/config.json")
