"""AWQ layers of the gemm layout, against float64."""

from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_layers import layer
from scaled_layers import awq_layer
from test_scaled import decoded

from zolit.errors import UserError
from zolit.models.loading.prequantized.awq import AwqFormat
from zolit.models.loading.prequantized.declared_format import declared_format
from zolit.models.loading.prequantized.weights import layer_weight

CONFIG = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}


@pytest.mark.parametrize("group", [32, 96])
def test_awq_equals_a_decode_by_hand(group: int) -> None:
    tensors, weight = awq_layer(24, 96, group)
    form = declared_format({**CONFIG, "group_size": group}, "f")
    store = layer_weight(layer(tensors), form, 24, 96)
    assert type(store).__name__ == "Int4Weight"
    np.testing.assert_allclose(decoded(store), weight, rtol=1e-5, atol=2e-7)


def test_what_config_json_may_leave_out() -> None:
    assert declared_format({"quant_method": "awq"}, "f") == AwqFormat(128)
    older = {"quant_method": "awq", "w_bit": 4, "q_group_size": -1, "version": "GEMM"}
    assert declared_format(older, "f") == AwqFormat(-1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"bits": 8}, "bits=8, expected 4"),
        ({"version": "gemv"}, "version='gemv', expected 'gemm'"),
        ({"format": "llm-awq"}, "format='llm-awq', expected 'gemm'"),
        ({"zero_point": False}, "zero_point=False, expected true"),
        ({"group_size": "x"}, "group_size='x', expected a positive number or -1"),
    ],
)
def test_what_config_json_cannot_ask_for(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        declared_format({**CONFIG, **values}, "f")


def test_other_shapes_are_refused() -> None:
    tensors, _ = awq_layer(24, 96, 32)
    tensors["qweight"] = torch.zeros(24, 12, dtype=torch.int32)
    with pytest.raises(UserError, match=r"qweight' .* is \[24, 12\] int32, but .* \[96, 3\]"):
        layer_weight(layer(tensors), declared_format(CONFIG, "f"), 24, 96)
