"""Load a language model: as floats, or prepared weight by weight."""

import logging
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from zolit.compat import GgufConfig
from zolit.models.families import FAMILIES
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.kept_layers import KeptLayers
from zolit.models.loading.open import (
    OpenCheckpoint,
    brings_code,
    has_adapter,
    meta_model,
    open_checkpoint,
)
from zolit.models.loading.pickles import UNREADABLE, find_pickled, unreadable
from zolit.models.loading.places import check_places
from zolit.models.loading.prequantized.checkpoint import check_kept
from zolit.models.loading.shards import find_safetensors
from zolit.models.loading.stream import check_report, stream
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource

log = logging.getLogger(__name__)


def load_prepared(
    source: ModelSource, dtype: torch.dtype, preparation: Preparation
) -> tuple[nn.Module, bool]:
    """A model whose weights are stored as `Preparation` says, in eval mode.

    Safetensors and GGUF files are read and quantized one tensor at a time; anything else is loaded
    whole first, and a line of the log says so.

    Args:
        source: hub name, folder or GGUF file.
        dtype: of its floating-point weights.
        preparation: formats and sites of the weights.

    Returns:
        The model, and whether every tuned weight can be read in two versions in one pass.

    Raises:
        UserError: if the model cannot be read, or ``tune`` or a format does not fit it. A wrong
            ``tune`` is found before any weight is read.
    """
    opened = open_checkpoint(source, dtype, preparation)
    if isinstance(opened, OpenCheckpoint):
        model = _read(opened, source, dtype, preparation)
    else:
        model = load_model(source, dtype)
        # Only now, so that a checkpoint that is refused causes no second line.
        level = logging.WARNING if preparation.quantizer.quantized else logging.INFO
        log.log(level, "%s is loaded whole and quantized afterwards: %s", source.path, opened)
        if preparation.quantizer.calibrated:
            preparation.calibrate(model, source.load_tokenizer())
    preparation.watch(model, source.load_tokenizer)
    # A plan of the loaded model: a checkpoint may hold two weights that the skeleton ties.
    plan = preparation.plan(preparation.adapt(model))
    plan.tell()
    preparation.apply(model, plan)
    return model, plan.pairable


def _read(
    opened: OpenCheckpoint, source: ModelSource, dtype: torch.dtype, preparation: Preparation
) -> nn.Module:
    """The model with its weights quantized, not yet with sites."""
    quantizer = opened.quantizer
    preparation = replace(preparation, quantizer=quantizer)
    path = source.resolved_path()
    model = stream(preparation, opened.plan, opened.skeleton, opened.tensors, dtype, path)
    if isinstance(quantizer, KeptLayers):
        check_kept(model, quantizer, source.path)
    _describe(model, source)
    return model


def _describe(model: Any, source: ModelSource) -> None:
    """Set the attributes that `from_pretrained` sets when it is given a path."""
    path = source.resolved_path()
    model.name_or_path = model.config.name_or_path = path
    if source.gguf_file is None and model.can_generate():
        # Without the file the model keeps the one that it made from its configuration.
        with suppress(OSError):
            model.generation_config = GenerationConfig.from_pretrained(
                path, revision=source.revision
            )


def load_model(source: ModelSource, dtype: torch.dtype) -> nn.Module:
    """A transformers language model in eval mode, no parameter requiring a gradient.

    Args:
        source: hub name, folder or GGUF file.
        dtype: of its floating-point weights.

    Raises:
        UserError: if the model cannot be read.
    """
    path = source.resolved_path()
    config = source.load_config()
    auto = FAMILIES[source.resolved_kind(config)].auto_class()
    tensors = _own_tensors(source, config)
    if tensors is not None and not brings_code(source, config):
        check_places(meta_model(source, config, dtype), tensors, path)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    if source.gguf_file is not None:
        options["gguf_file"] = source.gguf_file
        # zolit quantizes the floats itself; it cannot read a weight from a packed GGUF layer.
        options["quantization_config"] = GgufConfig(dequantize=True)
        from zolit.models.gguf.table import check_gguf_places, read_table

        check_gguf_places(read_table(source.gguf_path()), meta_model(source, config, dtype))
    options["config"] = config
    if source.revision is not None:
        options["revision"] = source.revision
    try:
        model, report = auto.from_pretrained(
            path, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    # Of pickles torch accepts only those that hold nothing but tensors.
    except UNREADABLE as error:
        raise unreadable(source.path, error) from error
    check_report(report, model, path)
    if tensors is not None and brings_code(source, config):
        check_places(model, tensors, path)
    # A GGUF file is expanded on load; its quantization_config no longer describes the weights.
    if source.gguf_file is not None and hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.eval().requires_grad_(False)


def _own_tensors(source: ModelSource, config: Any) -> dict[str, LazyTensor] | None:
    """The tensors of a checkpoint of floats; None for a format that another reader decodes."""
    if source.gguf_file is not None or getattr(config, "quantization_config", None) is not None:
        return None
    if has_adapter(source):
        return None  # an adapter gives the layers other names
    return find_safetensors(source) or find_pickled(source)
