"""Opens a checkpoint: finds its tensors before any of them is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from zolit.compat import cached_file
from zolit.errors import UserError
from zolit.models.config_file import FAULTS, not_valid
from zolit.models.families import FAMILIES
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.places import check_places
from zolit.models.loading.prequantized.checkpoint import (
    pickles_refused,
    sort_tensors,
    take_declared,
)
from zolit.models.loading.shards import find_safetensors
from zolit.models.parts import StoresWeights
from zolit.models.plan import Plan
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource

if TYPE_CHECKING:
    from zolit.models.gguf.table import GgufTable


@dataclass(frozen=True)
class OpenCheckpoint:
    """A checkpoint whose tensors can be read one by one, none of them read yet.

    Attributes:
        skeleton: the model on the meta device.
        plan: what becomes of its parameters, except those of an adapter.
        quantizer: stores its linear layers: that of the recipe, or the layers that the checkpoint
            keeps (`KeptLayers`).
        tensors: of the checkpoint, under the model's names.
    """

    skeleton: nn.Module
    plan: Plan
    quantizer: StoresWeights
    tensors: dict[str, LazyTensor]


def open_checkpoint(
    source: ModelSource, dtype: torch.dtype, preparation: Preparation
) -> OpenCheckpoint | str:
    """Find the tensors of a checkpoint.

    Args:
        source: hub name, folder or GGUF file.
        dtype: of the model's floats.
        preparation: formats and sites of the weights.

    Returns:
        The checkpoint, or why its tensors cannot be read one by one.

    Raises:
        UserError: if it is damaged, or the quantizer or the adapter does not fit it.
    """
    # First, as it has the best message about a damaged file.
    table = _gguf_table(source)
    config = source.load_config()
    if preparation.adapter is not None and has_adapter(source):
        raise UserError(
            f"adapter: {source.path!r} holds an adapter already; give the model without it in "
            "model.source, and the adapter's folder in adapter.start_from"
        )
    form = take_declared(config, source, preparation.quantizer)
    if preparation.quantizer.calibrated:
        return "its quantizer is calibrated on the whole model"
    reason = _whole(source, config)
    keeps = not preparation.quantizer.converts
    if reason is not None:
        if keeps:
            raise UserError(
                f"model.source: the quantized layers of {source.path!r} cannot be kept, because "
                f"{reason}; give the quantized checkpoint alone"
            )
        return reason
    skeleton = meta_model(source, config, dtype)
    plan = preparation.plan_ahead(skeleton)
    tensors = _tensors(source, table, skeleton)
    if isinstance(tensors, str):
        if table is not None and keeps:
            from zolit.models.loading.prequantized.gguf_blocks import blocks_refused

            raise blocks_refused(table, tensors)
        if form is not None:
            raise pickles_refused(source.resolved_path())
        return tensors
    found = None
    if form is not None:
        found = sort_tensors(form, skeleton, tensors, dtype)
    elif table is not None and keeps:
        from zolit.models.loading.prequantized.gguf_blocks import keep_blocks

        found = keep_blocks(table, skeleton, plan, tensors, dtype)
    quantizer = preparation.quantizer if found is None else found.layers
    tensors = tensors if found is None else found.tensors
    declared = None if form is None else str(form)
    placed = check_places(skeleton, tensors, source.resolved_path(), declared)
    return OpenCheckpoint(skeleton, plan, quantizer, placed)


# Modules that read GGUF files are imported only for such a file: the package gguf is an extra.


def _gguf_table(source: ModelSource) -> "GgufTable | None":
    if source.gguf_file is None:
        return None
    from zolit.models.gguf.table import read_table

    return read_table(source.gguf_path())


def _tensors(
    source: ModelSource, table: "GgufTable | None", skeleton: nn.Module
) -> dict[str, LazyTensor] | str:
    """The tensors of a checkpoint, or why they cannot be read one by one."""
    if table is None:
        return find_safetensors(source) or "it has no safetensors files"
    from zolit.models.gguf.table import gguf_tensors

    return gguf_tensors(table, skeleton)


def meta_model(source: ModelSource, config: Any, dtype: torch.dtype) -> nn.Module:
    """The model of a configuration on the meta device: names, shapes and ties without memory.

    Raises:
        UserError: if the configuration describes no model, or one that is neither causal nor
            masked.
    """
    auto = FAMILIES[source.resolved_kind(config)].auto_class()
    try:
        with torch.device("meta"):
            model: nn.Module = auto.from_config(
                config, dtype=dtype, trust_remote_code=source.trust_remote_code
            )
    except FAULTS as error:
        raise not_valid(source.path, error) from error
    return model.eval().requires_grad_(False)


def _whole(source: ModelSource, config: Any) -> str | None:
    """A reason in the configuration why the weights cannot be read one by one; None for none."""
    if brings_code(source, config):
        return "it brings code of its own"
    if getattr(config, "quantization_config", None) is not None and source.gguf_file is None:
        return "its weights are quantized already"
    if has_adapter(source):
        return "its folder holds an adapter"
    return None


def brings_code(source: ModelSource, config: Any) -> bool:
    """Whether the checkpoint comes with Python code that makes the model."""
    return source.trust_remote_code and bool(getattr(config, "auto_map", None))


def has_adapter(source: ModelSource) -> bool:
    """Whether an adapter's configuration lies beside the model."""
    path = source.resolved_path()
    if Path(path).is_dir():
        return Path(path, "adapter_config.json").is_file()
    try:
        return cached_file(path, "adapter_config.json", revision=source.revision) is not None
    except OSError:
        return False
