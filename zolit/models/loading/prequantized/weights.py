"""Layers of quantized checkpoints as stored weights that keep their codes."""

from collections.abc import Callable

import torch
from torch import Tensor

from zolit.formats.affine import value_of_zero
from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.codebook import CodebookWeight
from zolit.formats.float8 import Float8Weight
from zolit.formats.int4 import Int4Weight, pack_codes
from zolit.formats.int8 import Int8Weight
from zolit.formats.permuted import PermutedWeight
from zolit.models.loading.prequantized.aqlm import AqlmFormat, read_aqlm
from zolit.models.loading.prequantized.awq import AwqFormat, read_awq
from zolit.models.loading.prequantized.compressed import CompressedFormat, is_packed, read_packed
from zolit.models.loading.prequantized.declared_format import Format
from zolit.models.loading.prequantized.fp8 import Fp8Format
from zolit.models.loading.prequantized.gptq import read_gptq
from zolit.models.loading.prequantized.layer import GroupedCodes, LayerTensors, PlainCodes
from zolit.models.loading.prequantized.scaled import read_scaled
from zolit.models.loading.prequantized.torchao import TorchaoFormat, read_torchao
from zolit.noise import WORD


def layer_weight(layer: LayerTensors, form: Format, rows: int, columns: int) -> StoredWeight:
    """A layer of a checkpoint as a stored weight, with as many bits a weight as on disk.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if the layer cannot be read, or its groups cannot be held.
    """
    if isinstance(form, AqlmFormat):
        found = read_aqlm(layer, form, rows, columns)
        return CodebookWeight(found.codes, found.codebooks, found.scale.unsqueeze(1))
    if isinstance(form, TorchaoFormat):
        return _plain(layer, "_weight_scale", read_torchao(layer, form, rows, columns))
    if isinstance(form, CompressedFormat) and is_packed(layer):
        return _grouped(layer, "weight_packed", read_packed(layer, form, rows, columns))
    if isinstance(form, Fp8Format | CompressedFormat):
        plain = read_scaled(layer, form.codes, form.blocks, rows, columns)
        return _plain(layer, "weight_scale", plain)
    # First: a size that zolit cannot hold may also be one that the file does not have.
    _check_width(layer, "qweight", columns if form.group_size == -1 else form.group_size)
    if isinstance(form, AwqFormat):
        return _grouped(layer, "qweight", read_awq(layer, form, rows, columns))
    return _grouped(layer, "qweight", read_gptq(layer, form, rows, columns))


def _check_width(layer: LayerTensors, name: str, size: int) -> None:
    if size % WORD:
        raise layer.bad(name, f"has groups of {size} columns, but zolit holds multiples of {WORD}")


def _grouped(layer: LayerTensors, name: str, found: GroupedCodes) -> StoredWeight:
    _check_width(layer, name, found.codes.shape[1] // found.scale.shape[1])
    weight = _BY_BITS[found.bits](found)
    return weight if found.permutation is None else PermutedWeight(weight, found.permutation)


def _plain(layer: LayerTensors, name: str, found: PlainCodes) -> StoredWeight:
    codes, scale, zero = found.codes, found.scale, found.zero
    if found.narrow or scale.shape[1] > 1:
        _check_width(layer, name, codes.shape[1] // scale.shape[1])
    if found.narrow:
        return Int4Weight(pack_codes(codes), scale, zero)
    if codes.dtype == torch.float8_e4m3fn:
        return Float8Weight(codes, scale)
    return Int8Weight(codes, scale, zero)


def _planes(found: GroupedCodes) -> StoredWeight:
    zero = value_of_zero(found.scale, found.zero, 0)
    return BitPlanesWeight.of_codes(found.codes, found.bits, found.scale, zero)


def _int4(found: GroupedCodes) -> StoredWeight:
    packed = pack_codes(found.codes.view(torch.int8) - 8)
    return Int4Weight(packed, found.scale, _zero(found, 8))


def _int8(found: GroupedCodes) -> StoredWeight:
    # To subtract 128 is to flip the top bit.
    return Int8Weight((found.codes ^ 128).view(torch.int8), found.scale, _zero(found, 128))


def _zero(found: GroupedCodes, middle: int) -> Tensor | None:
    """Value of stored code 0; None for symmetric layers, where it is 0."""
    if (found.zero == middle).all():
        return None
    return value_of_zero(found.scale, found.zero, middle)


_BY_BITS: dict[int, Callable[[GroupedCodes], StoredWeight]] = {
    2: _planes,
    3: _planes,
    4: _int4,
    8: _int8,
}
