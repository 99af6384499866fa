"""What quant_method fp8, mxfp8 and fbgemm_fp8 declare: float8 codes, scales beside them."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from zolit.errors import UserError
from zolit.models.loading.prequantized.layer import declared_otherwise
from zolit.models.loading.prequantized.scaled import CHANNEL, TENSOR, Block

METHODS = ("fp8", "mxfp8", "fbgemm_fp8")


@dataclass(frozen=True)
class Fp8Format:
    """What config.json says of a checkpoint of float8 codes.

    Attributes:
        method: ``fp8`` (DeepSeek, Qwen, AutoFP8), ``mxfp8`` or ``fbgemm_fp8``.
        blocks: sizes of blocks that a scale may belong to.
        activations: how the checkpoint rounds activations, for a message.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
        codes: dtype of the codes.
    """

    marks: ClassVar[tuple[str, ...]] = ("weight_scale_inv", "weight_scale")
    parts: ClassVar[frozenset[str]] = frozenset({"weight", *marks, "bias"})
    codes: ClassVar[tuple[torch.dtype, ...]] = (torch.float8_e4m3fn,)

    method: str
    blocks: tuple[Block, ...]
    activations: str | None

    def __str__(self) -> str:
        shape = self.blocks[0]
        of = f" with weight_block_size={list(shape)}" if shape not in (TENSOR, CHANNEL) else ""
        return f"quant_method={self.method}{of}"


def fp8_format(config: dict[str, Any], file: str) -> Fp8Format:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with one of `METHODS`.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """

    def refuse(key: str, expected: str) -> UserError:
        advice = "give a checkpoint of that kind, or the float model with quantizer Float8"
        return declared_otherwise(config, key, file, expected, advice)

    method = str(config["quant_method"])
    if config.get("fmt", "e4m3") not in ("e4m3", "e4m3fn"):
        raise refuse("fmt", "'e4m3'")
    if config.get("expert_dtype", "fp8") not in (None, "fp8"):
        raise refuse("expert_dtype", "'fp8'")
    if method == "fbgemm_fp8":
        return Fp8Format(method, (CHANNEL,), "dynamic, by token")
    size = config.get("weight_block_size", [1, 32] if method == "mxfp8" else None)
    scheme = config.get("activation_scheme", "dynamic")
    said = None if scheme is None else f"activation_scheme={scheme}"
    if size is None:
        return Fp8Format(method, (TENSOR, CHANNEL), said)
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(map(_is_size, size)):
        raise refuse("weight_block_size", "two positive numbers or null")
    return Fp8Format(method, ((int(size[0]), int(size[1])),), said)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
