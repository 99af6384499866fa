"""GPTQ layers read back to the numbers that they were packed from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_layers import GptqLayer, gptq_layer, layer, stream_of_bits
from torch import Tensor

from zolit.errors import UserError
from zolit.models.loading.prequantized.declared_format import declared_format
from zolit.models.loading.prequantized.gptq import GptqFormat, read_gptq, settle_zeros
from zolit.models.loading.prequantized.layer import GroupedCodes


def decoded(found: GroupedCodes) -> np.ndarray:
    """``[rows, columns]`` float64 in the model's order of columns."""
    columns = found.codes.shape[1]
    size = columns // found.scale.shape[1]
    scale = np.repeat(found.scale.double().numpy(), size, axis=1)
    zero = np.repeat(found.zero.double().numpy(), size, axis=1)
    values = scale * (found.codes.double().numpy() - zero)
    if found.permutation is None:
        return values
    weight = np.empty_like(values)
    weight[:, found.permutation.numpy()] = values
    return weight


def read(one: GptqLayer, **changed: Any) -> GroupedCodes:
    rows, columns = one.weight.shape
    return read_gptq(layer({**one.tensors, **changed}), one.form, rows, columns)


@pytest.mark.parametrize("v2", [True, False])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", [32, 96, -1])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_every_weight_is_read_exactly(
    bits: int, group_size: int, act_order: bool, v2: bool
) -> None:
    one = gptq_layer(bits, group_size=group_size, act_order=act_order, v2=v2)
    found = read(one)
    np.testing.assert_array_equal(decoded(found), one.weight)
    assert (found.permutation is not None) == (act_order and group_size == 32)
    assert found.codes.dtype == found.zero.dtype == torch.uint8


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_sizes_that_leave_bits_unused(bits: int) -> None:
    one = gptq_layer(bits, rows=50, columns=40, group_size=20, act_order=True)
    np.testing.assert_array_equal(decoded(read(one)), one.weight)


def test_more_codes_than_are_unpacked_at_once() -> None:
    one = gptq_layer(3, rows=70_000, columns=64, group_size=32)
    np.testing.assert_array_equal(decoded(read(one)), one.weight)


def test_no_group_index_means_columns_in_order() -> None:
    one = gptq_layer()
    del one.tensors["g_idx"]
    np.testing.assert_array_equal(decoded(read(one)), one.weight)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_zero_point_0_of_the_first_format_borrows_from_its_neighbour(bits: int) -> None:
    """GPTQModel subtracts one from each field of whole words."""
    one = gptq_layer(bits, zero_low=0)
    ones = sum(1 << bit for bit in range(0, 32, bits))
    words = (one.tensors["qzeros"].long() - ones).to(torch.int32)
    first = GptqLayer({**one.tensors, "qzeros": words}, GptqFormat(bits, 32, True), one.weight)
    np.testing.assert_array_equal(decoded(read(first)), one.weight)


def test_negative_scales_mirror_their_codes() -> None:
    one = gptq_layer(3)
    signs = torch.where(torch.arange(64) % 3 == 0, -1, 1)
    found = read(one, scales=one.tensors["scales"] * signs)
    np.testing.assert_array_equal(decoded(found), one.weight * signs.numpy()[:, None])
    assert (found.scale > 0).all()


def _with(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[], Any]:
    one = gptq_layer(act_order=True)
    return lambda: read(one, **{name: change(one.tensors[name])})


def _put(value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed[1] = value
        return changed

    return change


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_with("qweight", lambda t: t[:-1]), r"qweight.*is \[11, 64\] int32, but .* \[12, 64\]"),
        (_with("qweight", lambda t: t.long()), r"qweight.*is \[12, 64\] int64"),
        (_with("qzeros", lambda t: t[:, :4]), r"qzeros.*is \[3, 4\] int32"),
        (_with("scales", lambda t: t.t()), r"scales.*is \[64, 3\] float16"),
        (_with("scales", _put(0.0)), r"scales.*has 64 scales that are zero, NaN or infinite"),
        (_with("scales", _put(np.nan)), r"scales.*\(nan\)"),
        (_with("scales", _put(-np.inf)), r"scales.*\(-inf\)"),
        (_with("g_idx", _put(3)), "g_idx.*names group 3, expected 0 to 2"),
        (_with("g_idx", _put(-1)), "g_idx.*names group -1, expected 0 to 2"),
        (_with("g_idx", torch.zeros_like), "g_idx.*puts 96 columns into group 0, expected 32"),
        (_with("g_idx", lambda t: t[:5]), r"g_idx.*is \[5\] int32"),
    ],
)
def test_what_cannot_be_is_refused_by_name(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        make()
    assert "'folder/model.safetensors'" in str(caught.value)
    assert "'blocks.0.up." in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_tensors_and_groups_that_do_not_fit() -> None:
    one = gptq_layer()
    del one.tensors["qzeros"]
    with pytest.raises(UserError, match=r"holds no tensor 'blocks.0.up.qzeros' \(of that layer"):
        read(one)
    one = gptq_layer()
    with pytest.raises(UserError, match="has 96 columns, no multiple of group_size=64"):
        read_gptq(layer(one.tensors), GptqFormat(4, 64, False), 64, 96)
    with pytest.raises(UserError, match=r"qweight.*is \[12, 64\]"):
        read_gptq(layer(one.tensors), GptqFormat(8, 32, False), 64, 96)


CONFIG = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def test_declared_formats() -> None:
    assert declared_format(CONFIG, "f") == GptqFormat(4, 128, True)
    newer = {**CONFIG, "checkpoint_format": "gptq_v2", "group_size": -1}
    assert declared_format(newer, "f") == GptqFormat(4, -1, False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quant_method": "quark"}, "quant_method='quark', expected one of gptq, aqlm"),
        ({"quant_method": ["gptq"]}, r"quant_method=\['gptq'\], expected one of"),
        ({"quant_method": "bitsandbytes"}, "expected one of .*with quantizer Int8 or Int4, or"),
        ({"quant_method": None, "load_in_4bit": True}, "quant_method='bitsandbytes'"),
        ({"quant_method": "hqq"}, "expected one of .*the float model with quantizer HQQ"),
        ({"quant_method": "auto-round"}, "expected one of .*--format auto_gptq"),
        ({"quant_method": "mxfp4"}, r"expected one of .*Mxfp4Config\(dequantize=True\)"),
        ({"quant_method": None}, "quant_method=None"),
        ({"bits": 5}, "bits=5, expected 2, 3, 4 or 8"),
        ({"bits": None}, "bits=None"),
        ({"group_size": 0}, "group_size=0"),
        ({"group_size": "128"}, "group_size='128'"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format='marlin', expected 'gptq' or"),
        ({"dynamic": {"-:.*": {}}}, "dynamic=.*expected one format for all layers"),
        ({"pack_dtype": "int16"}, "pack_dtype='int16', expected 'int32'"),
    ],
)
def test_other_formats_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        declared_format({**CONFIG, **change}, "folder/config.json")


def symmetric(bits: int, stored: int, label: bool) -> tuple[GptqLayer, GptqFormat]:
    """A symmetric layer whose stored zeros are all ``stored``; label: gptq_v2 is declared."""
    one = gptq_layer(bits, v2=True)
    zeros = np.full(one.tensors["scales"].shape, stored)
    one.tensors["qzeros"] = torch.from_numpy(stream_of_bits(zeros.T, bits).T.copy())
    return one, GptqFormat(bits, 32, zeros_less_one=not label, symmetric=True)


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("less_one", [True, False])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zeros_of_symmetric_layers_are_the_middle(bits: int, less_one: bool, label: bool) -> None:
    middle = 2 ** (bits - 1)
    one, form = symmetric(bits, middle - less_one, label)
    settled = settle_zeros(layer(one.tensors), form, 64)
    assert settled.zeros_less_one == less_one
    found = read_gptq(layer(one.tensors), settled, 64, 96)
    assert (found.zero == middle).all()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_zeros_of_symmetric_layers_that_fit_no_convention(bits: int) -> None:
    middle = 2 ** (bits - 1)
    one, form = symmetric(bits, 2**bits - 1, True)
    with pytest.raises(UserError, match=f"holds zero points {2**bits - 1}, but .*{middle}, st"):
        settle_zeros(layer(one.tensors), form, 64)
    drawn = gptq_layer(bits)
    with pytest.raises(UserError, match=r"holds zero points \d+, \d+, "):
        settle_zeros(layer(drawn.tensors), form, 64)


def test_a_later_layer_in_the_other_convention_is_refused() -> None:
    one, form = symmetric(4, 7, True)
    with pytest.raises(UserError, match="holds zero points 7, but those of layers read before"):
        read_gptq(layer(one.tensors), form, 64, 96)


def test_only_true_is_symmetric() -> None:
    assert declared_format({**CONFIG, "sym": True}, "f").symmetric
    for value in (False, None, "true"):
        assert not declared_format({**CONFIG, "sym": value}, "f").symmetric
