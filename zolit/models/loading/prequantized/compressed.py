"""Read layers of compressed-tensors (llm-compressor): one-byte codes, or codes packed in words.

Layers of the formats float-quantized, int-quantized and naive-quantized are those of
`zolit.models.loading.prequantized.scaled`. A layer of pack-quantized, of N rows and K columns in G
groups, has

- ``weight_packed`` ``[N, K * bits / 32]`` int32: codes of a row as one stream of bits, low bits
  first, each moved up by half its range;
- ``weight_scale`` ``[N, G]``;
- ``weight_zero_point`` ``[N * bits / 32, G]`` int32, packed along rows, where it is not symmetric;
- ``weight_shape`` ``[2]``: N and K;
- ``weight_g_idx`` ``[K]``: group of each column, where groups are scattered.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from zolit.errors import UserError
from zolit.models.loading.prequantized.gptq import column_order, middle_code, unpack_bits
from zolit.models.loading.prequantized.layer import FLOATS, GroupedCodes, LayerTensors
from zolit.models.loading.prequantized.scaled import CHANNEL, CODES, TENSOR, Block

FORMATS = ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized")
PACKED_BITS = (2, 4, 8)


@dataclass(frozen=True)
class CompressedFormat:
    """What config.json says of a checkpoint of compressed-tensors.

    Attributes:
        name: its format.
        blocks: sizes of blocks that a scale may belong to.
        bits: of packed codes.
        activations: how the checkpoint rounds activations, for a message.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
        codes: dtypes of codes that are not packed.
    """

    marks: ClassVar[tuple[str, ...]] = ("weight_scale", "weight_packed")
    parts: ClassVar[frozenset[str]] = frozenset(
        {"weight", *marks, "weight_zero_point", "weight_shape", "weight_g_idx", "bias"}
    )
    codes: ClassVar[tuple[torch.dtype, ...]] = CODES

    name: str
    blocks: tuple[Block, ...]
    bits: tuple[int, ...]
    activations: str | None

    def __str__(self) -> str:
        return f"quant_method=compressed-tensors with format={self.name}"


def compressed_format(config: dict[str, Any], file: str) -> CompressedFormat:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with ``quant_method: compressed-tensors``.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """

    def refuse(key: str, got: Any, expected: str) -> UserError:
        return UserError(
            f"model.source: quantization_config of {file!r} has {key}={got!r}, expected "
            f"{expected}; give a checkpoint of compressed-tensors of that kind, or the float "
            "model and one of zolit's own quantizers"
        )

    sparsity = config.get("sparsity_config") or {}
    if isinstance(sparsity, dict) and sparsity.get("format", "dense") != "dense":
        raise refuse("sparsity_config.format", sparsity["format"], "dense weights")
    if config.get("transform_config"):
        raise refuse("transform_config", "{...}", "weights without rotations")
    groups = config.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise refuse("config_groups", groups, "the groups of its layers")
    blocks: list[Block] = []
    bits: list[int] = []
    names: list[str] = []
    rounded = None
    for name, group in groups.items():
        key = f"config_groups.{name}"
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            raise refuse(key, group, "a group with weights")
        names.append(str(group.get("format") or config.get("format")))
        if names[-1] not in FORMATS:
            raise refuse("format", names[-1], f"one of {', '.join(FORMATS)}")
        block = _block(weights)
        if block is None:
            said = {k: weights.get(k) for k in ("strategy", "group_size", "block_structure")}
            raise refuse(f"{key}.weights", said, "tensor, channel, group or block with its size")
        blocks.append(block)
        if names[-1] == "pack-quantized":
            if weights.get("num_bits") not in PACKED_BITS or weights.get("type") != "int":
                said = {k: weights.get(k) for k in ("type", "num_bits")}
                raise refuse(f"{key}.weights", said, "int of 2, 4 or 8 bits")
            bits.append(weights["num_bits"])
        elif weights.get("num_bits") != 8:
            raise refuse(f"{key}.weights.num_bits", weights.get("num_bits"), "8")
        rounded = rounded or _activations(group, name)
    return CompressedFormat("/".join(dict.fromkeys(names)), tuple(blocks), tuple(bits), rounded)


def _block(weights: dict[str, Any]) -> Block | None:
    """The size of the block that a scale belongs to; None for a strategy that is not read."""
    strategy, size = weights.get("strategy"), weights.get("group_size")
    if strategy is None:
        strategy = "tensor" if size is None else "channel" if size == -1 else "group"
    if strategy == "tensor":
        return TENSOR
    if strategy == "channel":
        return CHANNEL
    if strategy == "group" and isinstance(size, int) and size > 0:
        return (1, size)
    shape = weights.get("block_structure")
    if strategy == "block" and isinstance(shape, list) and len(shape) == 2:
        return (shape[0], shape[1]) if all(isinstance(n, int) and n > 0 for n in shape) else None
    return None


def _activations(group: dict[str, Any], name: str) -> str | None:
    found = group.get("input_activations")
    if not isinstance(found, dict):
        return None
    kind = "dynamic" if found.get("dynamic") else "static"
    return f"input_activations of {name}: {found.get('num_bits')} bits, {kind}"


def is_packed(layer: LayerTensors) -> bool:
    """Whether the codes of a layer are packed in words."""
    return "weight_packed" in layer.tensors


def read_packed(
    layer: LayerTensors, form: CompressedFormat, rows: int, columns: int
) -> GroupedCodes:
    """Codes, scales and zero points of a packed layer, its columns in order of their groups.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    widths: dict[tuple[int, ...], int] = {
        (rows, -(-columns * bits // 32)): bits for bits in form.bits
    }
    packed = layer.take_one_of("weight_packed", list(widths), (torch.int32,))
    bits = widths[tuple(packed.shape)]
    if "weight_shape" in layer.tensors:
        said = layer.take("weight_shape", (2,), (torch.int64, torch.int32)).tolist()
        if said != [rows, columns]:
            raise layer.bad("weight_shape", f"is {said}, but the model has {[rows, columns]}")
    sizes = [width or columns for height, width in form.blocks if height == 1]
    counts: dict[tuple[int, ...], int] = {
        (rows, columns // size): size for size in sizes if columns % size == 0
    }
    scale = layer.take_one_of("weight_scale", list(counts), FLOATS)
    groups = scale.shape[1]
    scale = layer.usable_scales("weight_scale", scale)
    codes = unpack_bits(packed.t(), bits, columns).t()
    zero = torch.full((rows, groups), middle_code(bits), dtype=torch.uint8)
    if "weight_zero_point" in layer.tensors:
        shape = (-(-rows * bits // 32), groups)
        points = layer.take("weight_zero_point", shape, (torch.int32,))
        zero = unpack_bits(points, bits, rows)
    order = column_order(layer, "weight_g_idx", counts[tuple(scale.shape)], groups, columns)
    codes = codes if order is None else codes[:, order]
    return GroupedCodes(bits, codes.contiguous(), scale.contiguous(), zero.contiguous(), order)
