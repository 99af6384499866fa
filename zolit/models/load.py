"""Load a language model: as floats, or prepared weight by weight."""

import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig

from zolit.compat import GgufConfig, cached_file
from zolit.errors import UserError
from zolit.models.gguf import check_layers, gguf_tensors, read_table
from zolit.models.gguf_layers import blocks, blocks_refused
from zolit.models.prepare import Preparation
from zolit.models.quantized import check_kept, contents, pickles_refused, take_declared
from zolit.models.shards import LazyTensor, safetensors
from zolit.models.source import ModelSource
from zolit.models.stream import check_report, stream
from zolit.strategies.quantizer.stored import Stored

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
        UserError: if the model cannot be read, or ``tune`` or a format does not fit it; the former
            is told before any weight is read.
    """
    model = _one_by_one(source, dtype, preparation)
    if isinstance(model, str):
        level = logging.WARNING if preparation.quantizer.quantized else logging.INFO
        log.log(level, "%s is loaded whole and quantized afterwards: %s", source.path, model)
        model = load_model(source, dtype)
        if preparation.quantizer.calibrated:
            preparation.quantizer.calibrate(model, source.load_tokenizer())
    # Of what was loaded: a checkpoint may hold two weights where the model would tie them.
    plan = preparation.plan(preparation.adapt(model))
    preparation.apply(model, plan)
    return model, plan.pairable


def _one_by_one(
    source: ModelSource, dtype: torch.dtype, preparation: Preparation
) -> nn.Module | str:
    """The model with its weights quantized, not yet with sites; or why that cannot be done."""
    # First, as it says best what is wrong with a damaged file.
    table = None if source.gguf_file is None else read_table(gguf_file(source))
    config = source.load_config()
    if table is not None:
        check_layers(table, config)
    if preparation.adapter is not None and _has_adapter(source):
        raise UserError(
            f"adapter: {source.path!r} holds an adapter already; give the model without it in "
            "model.source, and the adapter's folder in adapter.start_from"
        )
    form = take_declared(config, source, preparation.quantizer)
    if preparation.quantizer.calibrated:
        return "its quantizer is calibrated on the whole model"
    reason = _whole(source, config)
    keeps = isinstance(preparation.quantizer, Stored)
    if reason is not None:
        if keeps:
            raise UserError(
                f"model.source: the quantized layers of {source.path!r} cannot be kept, because "
                f"{reason}; give the quantized checkpoint alone"
            )
        return reason
    skeleton = meta_model(source, config, dtype)
    plan = preparation.plan_ahead(skeleton)
    tensors: dict[str, LazyTensor] | str = (
        safetensors(source) or "it has no safetensors files"
        if table is None
        else gguf_tensors(table, skeleton)
    )
    if isinstance(tensors, str):
        if table is not None and keeps:
            raise blocks_refused(table, tensors)
        if form is not None:
            raise pickles_refused(source.resolved_path())
        return tensors
    found = None
    if form is not None:
        found = contents(form, skeleton, tensors, dtype)
    elif table is not None and keeps:
        found = blocks(table, skeleton, plan, tensors, dtype)
    if found is not None:
        preparation, tensors = replace(preparation, quantizer=found.quantizer), found.tensors
    model = stream(preparation, plan, skeleton, tensors, dtype, source.resolved_path())
    if found is not None:
        check_kept(model, found.quantizer, source.path)
    _describe(model, source)
    return model


def _whole(source: ModelSource, config: Any) -> str | None:
    """Why the weights cannot be read one by one, as far as the configuration tells."""
    if source.trust_remote_code and getattr(config, "auto_map", None):
        return "it brings code of its own"
    if getattr(config, "quantization_config", None) is not None and source.gguf_file is None:
        return "its weights are quantized already"
    if _has_adapter(source):
        return "its folder holds an adapter"
    return None


def _has_adapter(source: ModelSource) -> bool:
    path = source.resolved_path()
    if Path(path).is_dir():
        return Path(path, "adapter_config.json").is_file()
    try:
        return cached_file(path, "adapter_config.json", revision=source.revision) is not None
    except OSError:
        return False


def gguf_file(source: ModelSource) -> Path:
    """The GGUF file of a source, fetched if it lies on the hub.

    Raises:
        UserError: if there is none.
    """
    path = source.resolved_path()
    if Path(path).is_dir():
        return Path(path, str(source.gguf_file))
    return Path(cached_file(path, str(source.gguf_file), revision=source.revision))


def _describe(model: Any, source: ModelSource) -> None:
    """What `from_pretrained` with a path notes beside the weights."""
    path = source.resolved_path()
    model.name_or_path = model.config.name_or_path = path
    if source.gguf_file is None and model.can_generate():
        # Without such a file the model has made one from its configuration.
        with suppress(OSError):
            model.generation_config = GenerationConfig.from_pretrained(
                path, revision=source.revision
            )


def _auto_class(source: ModelSource, config: Any) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    causal = source.resolved_kind(config) == "causal"
    return AutoModelForCausalLM if causal else AutoModelForMaskedLM


def meta_model(source: ModelSource, config: Any, dtype: torch.dtype) -> nn.Module:
    """The model of a configuration on the meta device: names, shapes and ties without memory.

    Raises:
        UserError: if the configuration is of neither kind of model.
    """
    with torch.device("meta"):
        model: nn.Module = _auto_class(source, config).from_config(
            config, dtype=dtype, trust_remote_code=source.trust_remote_code
        )
    return model.eval().requires_grad_(False)


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
    auto = _auto_class(source, config)
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    if source.gguf_file is not None:
        options["gguf_file"] = source.gguf_file
        # zolit quantizes by itself; packed GGUF layers have no weight that it could read.
        options["quantization_config"] = GgufConfig(dequantize=True)
    else:
        options["config"] = config
    if source.revision is not None:
        options["revision"] = source.revision
    try:
        model, report = auto.from_pretrained(
            path, ignore_mismatched_sizes=True, output_loading_info=True, **options
        )
    # Damaged pickles raise whatever their reader came to; of sound ones only tensors are accepted.
    except (OSError, ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"model.source.path: no weights could be read from {source.path!r} ({reason}); give a "
            "folder saved by save_pretrained or a hub name, and check the network"
        ) from error
    check_report(report, path)
    # A GGUF file is expanded on load; its quantization_config no longer describes the weights.
    if source.gguf_file is not None and hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.eval().requires_grad_(False)
