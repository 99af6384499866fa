"""Layers of compressed-tensors against float64, and against the package where it is installed."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_layers import layer
from scaled_layers import compressed, packed_layer, scaled_layer
from test_scaled import decoded
from torch import Tensor

from zolit.errors import UserError
from zolit.models.loading.prequantized.declared_format import declared_format
from zolit.models.loading.prequantized.weights import layer_weight

SCALED: dict[str, tuple[dict[str, Any], tuple[int, int], dict[str, Any]]] = {
    "float8 channels": (compressed("float-quantized"), (1, 96), {}),
    "float8 tensor": (compressed("float-quantized", strategy="tensor"), (24, 96), {}),
    "float8 blocks": (
        compressed("float-quantized", strategy="block", block_structure=[16, 32]),
        (16, 32),
        {},
    ),
    "float8 groups": (compressed("naive-quantized", strategy="group", group_size=32), (1, 32), {}),
    "int8 channels": (compressed("int-quantized", type="int"), (1, 96), {"kind": "int8"}),
    "int8 tensor": (compressed("int-quantized", type="int", strategy="tensor"), (24, 96), {}),
    "int8 points": (
        compressed("int-quantized", type="int", symmetric=False),
        (1, 96),
        {"kind": "int8", "points": True},
    ),
    "int8 groups": (
        compressed("int-quantized", type="int", strategy="group", group_size=32),
        (1, 32),
        {"kind": "int8"},
    ),
}


@pytest.mark.parametrize("case", SCALED)
def test_one_byte_codes_equal_a_decode_by_hand(case: str) -> None:
    said, block, options = SCALED[case]
    tensors, weight = scaled_layer(24, 96, block, **options)
    store = layer_weight(layer(tensors), declared_format(said, "f"), 24, 96)
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [32, 96])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_packed_codes_equal_a_decode_by_hand(
    bits: int, group: int, symmetric: bool, scattered: bool
) -> None:
    tensors, weight = packed_layer(bits, 24, 96, group, symmetric, scattered)
    said = compressed(
        "pack-quantized", num_bits=bits, type="int", strategy="group", group_size=group
    )
    store = layer_weight(layer(tensors), declared_format(said, "f"), 24, 96)
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-5, atol=2e-7)
    held = sum(
        8 * one.numel() * one.element_size()
        for name, one in store.tensors().items()
        if name not in store.scales() and name != "permutation"
    )
    assert held == bits * 24 * 96


def test_a_shape_of_another_layer_is_refused() -> None:
    tensors, _ = packed_layer(4, 24, 96, 32, True)
    tensors["weight_shape"] = torch.tensor([24, 95])
    said = compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32)
    with pytest.raises(UserError, match=r"weight_shape' .* is \[24, 95\], but the model has"):
        layer_weight(layer(tensors), declared_format(said, "f"), 24, 96)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            compressed("nvfp4-pack-quantized"),
            "'nvfp4-pack-quantized', expected one of float-q",
        ),
        (compressed("pack-quantized", num_bits=3, type="int"), "int of 2, 4 or 8 bits"),
        (compressed("float-quantized", num_bits=4), "num_bits=4, expected 8"),
        (
            compressed("float-quantized", strategy="token"),
            "expected tensor, channel, group",
        ),
        (
            compressed("float-quantized", strategy="block"),
            "expected tensor, channel, group",
        ),
        ({**compressed("float-quantized"), "config_groups": {}}, "config_groups={}"),
        ({**compressed("float-quantized"), "config_groups": {"a": 3}}, "config_groups.a=3"),
        ({**compressed("float-quantized"), "transform_config": {"R1": {}}}, "without rotations"),
        (
            {**compressed("float-quantized"), "sparsity_config": {"format": "sparse-24-bitmask"}},
            "sparsity_config.format='sparse-24-bitmask', expected dense",
        ),
    ],
)
def test_what_config_json_cannot_ask_for(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        declared_format(changed, "f")
    assert "\n" not in str(caught.value)


def _theirs(said: dict[str, Any], tensors: dict[str, Tensor]) -> np.ndarray:
    """The package's own decompression, float32."""
    compressors = pytest.importorskip("compressed_tensors.compressors")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    whole = quantization.QuantizationConfig(**said)
    scheme = next(iter(whole.config_groups.values()))
    compressor = compressors.BaseCompressor.get_value_from_registry(said["format"])
    wide = {k: v.float() if "scale" in k else v for k, v in tensors.items()}
    return compressor.decompress(wide, scheme)["weight"].double().numpy()


@pytest.mark.parametrize("case", ["float8 channels", "float8 tensor", "int8 channels"])
def test_the_package_decodes_the_same_bytes(case: str) -> None:
    said, block, options = SCALED[case]
    tensors, _ = scaled_layer(24, 96, block, **options)
    theirs = _theirs(said, tensors)
    store = layer_weight(layer(tensors), declared_format(said, "f"), 24, 96)
    np.testing.assert_allclose(decoded(store), theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_package_decodes_the_same_words(bits: int, symmetric: bool) -> None:
    tensors, _ = packed_layer(bits, 24, 96, 32, symmetric)
    said = compressed(
        "pack-quantized",
        num_bits=bits,
        type="int",
        strategy="group",
        group_size=32,
        symmetric=symmetric,
    )
    theirs = _theirs(said, tensors)
    store = layer_weight(layer(tensors), declared_format(said, "f"), 24, 96)
    np.testing.assert_allclose(decoded(store), theirs, rtol=1e-5, atol=2e-7)
