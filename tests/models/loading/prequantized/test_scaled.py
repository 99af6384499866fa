"""Float8 and int8 layers with scales by blocks, against float64 decodes made weight by weight."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_layers import layer
from scaled_layers import scaled_layer
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.loading.prequantized.declared_format import declared_format
from zolit.models.loading.prequantized.scaled import read_scaled
from zolit.models.loading.prequantized.weights import layer_weight
from zolit.noise import WORD

FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
BLOCKS = {**FP8, "weight_block_size": [128, 128]}
FBGEMM = {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}


def decoded(store: StoredWeight) -> np.ndarray:
    """What the kernels read, in float32."""
    out = torch.zeros(store.rows, store.padded_columns)
    store.read(slice(0, store.rows), [out], None, "reference")
    return store.in_model_order(out).double().numpy()


CASES: dict[str, tuple[dict[str, Any], tuple[int, int], tuple[int, int], dict[str, Any]]] = {
    "blocks": (BLOCKS, (256, 384), (128, 128), {}),
    "blocks cut short": (BLOCKS, (200, 320), (128, 128), {}),
    "one block": (BLOCKS, (40, 96), (128, 128), {}),
    "blocks of exponents": (BLOCKS, (256, 256), (128, 128), {"exponents": True}),
    "wide blocks": ({**FP8, "weight_block_size": [64, 32]}, (96, 96), (64, 32), {}),
    "a tensor": (FP8, (24, 40), (24, 40), {}),
    "channels": (FBGEMM, (24, 40), (1, 40), {}),
    "mxfp8": ({"quant_method": "mxfp8"}, (16, 96), (1, 32), {"exponents": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_float8_equals_a_decode_by_hand(case: str) -> None:
    config, shape, block, options = CASES[case]
    tensors, weight = scaled_layer(*shape, block, **options)
    form = declared_format(config, "f")
    if config["quant_method"] == "fp8":
        tensors["weight_scale_inv"] = tensors.pop("weight_scale")
    store = layer_weight(layer(tensors), form, *shape)
    assert type(store).__name__ == "Float8Weight"
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-7)
    kept = store.tensors()["codes"]
    assert torch.equal(kept.view(torch.uint8), tensors["weight"].view(torch.uint8))
    assert set(store.scales()["scale"].unique().tolist()) == set(scales(tensors).tolist())


def scales(tensors: dict[str, Tensor]) -> Tensor:
    one = tensors.get("weight_scale_inv", tensors.get("weight_scale"))
    assert one is not None
    wide = torch.exp2(one.float() - 127) if one.dtype == torch.uint8 else one.float()
    return wide.flatten()


@pytest.mark.parametrize("shape", [(256, 384), (128, 128)])
def test_blocks_equal_transformers_own(shape: tuple[int, int]) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    tensors, _ = scaled_layer(*shape, (128, 128))
    theirs = Fp8Dequantize(None)._dequantize_one(
        tensors["weight"], tensors["weight_scale"], torch.float32
    )
    store = layer_weight(layer(tensors), declared_format(BLOCKS, "f"), *shape)
    np.testing.assert_array_equal(decoded(store), theirs.double().numpy())


@pytest.mark.parametrize("form", [(), (1,), (1, 1)])
def test_the_scale_of_a_tensor_has_several_shapes(form: tuple[int, ...]) -> None:
    tensors, weight = scaled_layer(16, 32, (16, 32))
    tensors["weight_scale"] = tensors["weight_scale"].view(form)
    store = layer_weight(layer(tensors), declared_format(FP8, "f"), 16, 32)
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-7)


def test_blocks_of_zeros_stay_zeros() -> None:
    tensors, weight = scaled_layer(256, 256, (128, 128))
    tensors["weight_scale"][1, 0] = 0
    weight[128:, :128] = 0
    store = layer_weight(layer(tensors), declared_format(BLOCKS, "f"), 256, 256)
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-7)
    assert (store.scales()["scale"] > 0).all()


def change(name: str, value: Any) -> Any:
    def put(tensors: dict[str, Tensor]) -> None:
        tensors[name] = value(tensors[name])

    return put


BROKEN = {
    "a code that is no number": (
        change("weight", lambda t: t.view(torch.uint8).fill_(0xFF).view(torch.float8_e4m3fn)),
        "weight' .* holds codes that are no number",
    ),
    "e5m2": (
        change("weight", lambda t: t.float().to(torch.float8_e5m2)),
        "is .* float8_e5m2, but .* makes it .* float8_e4m3fn",
    ),
    "values": (change("weight", lambda t: t.bfloat16()), "is .* bfloat16, but"),
    "a scale too many": (
        change("weight_scale", lambda t: torch.ones(3, 2)),
        r"is \[3, 2\] float32, but quant_method=fp8 with weight_block_size=\[128, 128\] makes it "
        r"\[2, 2\]",
    ),
    "an infinite scale": (change("weight_scale", lambda t: t * torch.inf), "NaN or infinite"),
    "an exponent that is no number": (
        change("weight_scale", lambda t: torch.full((2, 2), 255, dtype=torch.uint8)),
        "NaN or infinite",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_layers_are_refused(fault: str) -> None:
    break_, said = BROKEN[fault]
    tensors, _ = scaled_layer(256, 256, (128, 128))
    break_(tensors)
    form = declared_format(BLOCKS, "f")
    one = layer(tensors)
    with pytest.raises(UserError, match=said) as caught:
        layer_weight(type(one)(one.path, one.file, tensors, str(form)), form, 256, 256)
    assert "\n" not in str(caught.value)


def test_blocks_that_no_kernel_holds_are_refused() -> None:
    tensors, _ = scaled_layer(64, 96, (16, 16))
    form = declared_format({**FP8, "weight_block_size": [16, 16]}, "f")
    with pytest.raises(UserError, match=rf"blocks of 16 columns of 96, .*multiples of {WORD}"):
        layer_weight(layer(tensors), form, 64, 96)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"weight_block_size": [128]}, r"weight_block_size=\[128\], expected two positive"),
        ({"weight_block_size": "128"}, "weight_block_size='128', expected two positive"),
        ({"weight_block_size": [0, 128]}, r"\[0, 128\], expected two positive"),
        ({"fmt": "e5m2"}, "fmt='e5m2', expected 'e4m3'"),
        ({"expert_dtype": "fp4"}, "expert_dtype='fp4', expected 'fp8'"),
    ],
)
def test_what_config_json_cannot_ask_for(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        declared_format({**FP8, **values}, "f")


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("block", [(1, 96), (1, 32), (24, 96)])
def test_int8_equals_a_decode_by_hand(block: tuple[int, int], points: bool) -> None:
    tensors, weight = scaled_layer(24, 96, block, "int8", points=points)
    found = read_scaled(layer(tensors), (torch.int8,), (block,), 24, 96)
    zero = np.zeros(1) if found.zero is None else found.zero.double().numpy()
    size = 96 // found.scale.shape[1]
    groups = np.arange(96) // size
    scale = found.scale.double().numpy()[:, groups]
    mine = scale * found.codes.double().numpy() + (zero[:, groups] if points else 0)
    np.testing.assert_allclose(mine, weight, rtol=1e-5, atol=1e-6)
    assert (found.zero is not None) == points
