"""Read weights that transformers saved with torchao: the tensors inside each tensor subclass.

A layer of N rows and K columns in G groups has

- ``_weight_qdata``: ``[N, K]`` int8 or float8_e4m3fn codes, or ``[N, K / 2]`` bytes of two int4
  codes, even columns in the low nibble;
- ``_weight_scale``: ``[N, G]``, of int4 ``[G, N]``;
- ``_weight_zero_point``, of the scale's shape: the code of weight 0, of int4 the value of code 0.
  Not there for float8, and may not be for int8: 0.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.models.loading.prequantized.layer import FLOATS, LayerTensors, PlainCodes

CONFIGS: dict[str, Literal["int8", "float8", "int4"]] = {
    "Int8WeightOnlyConfig": "int8",
    "Float8WeightOnlyConfig": "float8",
    "Int4WeightOnlyConfig": "int4",
    "IntxWeightOnlyConfig": "int8",
}
"""Configurations of torchao whose weights zolit keeps, and the type of their codes."""


@dataclass(frozen=True)
class TorchaoFormat:
    """What config.json says of a torchao checkpoint.

    Attributes:
        name: torchao's class.
        codes: how a code is stored.
        zero_points: whether layers of int8 codes have them.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
    """

    marks: ClassVar[tuple[str, ...]] = ("_weight_qdata",)
    parts: ClassVar[frozenset[str]] = frozenset(
        {"_weight_qdata", "_weight_scale", "_weight_zero_point", "bias"}
    )

    name: str
    codes: Literal["int8", "float8", "int4"]
    zero_points: bool = True

    def __str__(self) -> str:
        return f"quant_method=torchao with {self.name}"


def torchao_format(config: dict[str, Any], file: str) -> TorchaoFormat:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with ``quant_method: torchao``.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """
    kinds = config.get("quant_type")
    kind = kinds.get("default") if isinstance(kinds, dict) and len(kinds) == 1 else kinds
    name = kind.get("_type") if isinstance(kind, dict) else kind
    if name not in CONFIGS:
        raise UserError(
            f"model.source: quantization_config of {file!r} has quant_type={name!r}, expected one "
            f"of {', '.join(CONFIGS)} for all layers; give such a checkpoint, or quantizer Int8, "
            "Int4 or Float8 to quantize it anew"
        )
    return TorchaoFormat(name, CONFIGS[name])


def read_torchao(layer: LayerTensors, form: TorchaoFormat, rows: int, columns: int) -> PlainCodes:
    """Codes, scales and zeros of a layer.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    if form.codes == "int4":
        return _int4(layer, rows, columns)
    dtype = torch.int8 if form.codes == "int8" else torch.float8_e4m3fn
    codes = layer.take_codes("_weight_qdata", (rows, columns), (dtype,))
    shapes = [(rows, groups) for groups in _divisors(columns)]
    # float8 may have one scale for the whole tensor.
    scale = _scales(layer, shapes + [(1, 1)] * (form.codes == "float8"))
    if form.codes == "float8":
        return PlainCodes(codes, False, scale.expand(rows, -1).contiguous(), None)
    if not form.zero_points:
        return PlainCodes(codes, False, scale, None)
    points = layer.take("_weight_zero_point", tuple(scale.shape), (torch.int8, *FLOATS))
    narrow = form.name == "IntxWeightOnlyConfig" and bool(((codes >= -8) & (codes <= 7)).all())
    return PlainCodes(codes, narrow, scale, _zero(layer, -(scale * points.float())))


def _int4(layer: LayerTensors, rows: int, columns: int) -> PlainCodes:
    packed = layer.take("_weight_qdata", (rows, columns // 2), (torch.int8, torch.uint8))
    shapes = [(groups, rows) for groups in _divisors(columns)]
    scale = _scales(layer, shapes).t().contiguous()
    shape = (scale.shape[1], rows)
    zero = layer.take("_weight_zero_point", shape, FLOATS).float().t().contiguous()
    packed = packed.view(torch.int8)
    codes = torch.stack(((packed << 4) >> 4, packed >> 4), dim=2).flatten(1)
    return PlainCodes(codes, True, scale, _zero(layer, zero))


def _scales(layer: LayerTensors, shapes: list[tuple[int, int]]) -> Tensor:
    found = layer.take_any("_weight_scale", FLOATS)
    if tuple(found.shape) not in shapes:
        raise layer.bad("_weight_scale", f"is {list(found.shape)}, which fits no group size")
    return layer.usable_scales("_weight_scale", found)


def _divisors(columns: int) -> list[int]:
    """Numbers of groups that columns can be cut into."""
    return [groups for groups in range(1, columns + 1) if columns % groups == 0]


def _zero(layer: LayerTensors, zero: Tensor) -> Tensor | None:
    if not torch.isfinite(zero).all():
        raise layer.bad("_weight_zero_point", "holds NaN or infinite numbers")
    return zero if zero.any() else None
