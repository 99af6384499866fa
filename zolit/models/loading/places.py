"""Checks, before a tensor is read, that every tensor of a checkpoint has a place in the model.

transformers' loader drops tensors without a place, and casts any numbers, codes included, to the
dtype of a parameter. Names are matched here by the loader's own rules: renamed keys, conversions,
base-model prefixes, and names that a class declares as ignorable.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zolit.compat import (
    LoadStateDictInfo,
    WeightConverter,
    WeightRenaming,
    get_model_conversion_mapping,
    rename_source_key,
)
from zolit.errors import UserError
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.shards import VALUES
from zolit.models.plan import find_parameters

log = logging.getLogger(__name__)

_HEADS = re.compile(
    r"^(\w+\.)?(pooler|classifier|score|qa_outputs|seq_relationship|sop_classifier|v_head"
    r"|discriminator_predictions|classification_head|multiple_choice_head|nsp_cls)\."
    r"|^cls\.seq_relationship\.|^predictions_sop\."
)
"""Names of heads of other tasks: the loss of a language model reads none of them."""

_CONSTANTS = re.compile(
    r"(rotary_emb\.(original_)?inv_freq|(^|\.)position_ids|\.masked_bias|relative_position_index)$"
)
"""Buffers that older versions of transformers saved; today's models make them themselves."""

_MASK = re.compile(r"\b(attn|attention)\.bias$")
"""Names of a causal mask, if the tensor has four dimensions."""

_QUANTIZED = re.compile(
    r"\.(qweight|qzeros|scales|g_idx|SCB|weight_format|weight_scale(_inv)?|weight_scale_2|scale"
    r"|input_scale|activation_scale|weight_packed|weight_shape|weight_zero_point|qscale_weight"
    r"|[kvq]_scale|absmax|quant_map|nested_absmax|nested_quant_map|quant_state\..*|codebooks|codes"
    r"|_weight_\w+|weight_blocks|weight_scales)$|\.weight\.(absmax|quant_map|nested_\w+|quant_state)"
    r"|_(blocks|scales)$"
)
_FACTOR = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|base_layer)\b")


@dataclass(frozen=True)
class Places:
    """Where the tensors of a checkpoint go.

    Attributes:
        targets: for each tensor with a place, the names of the model's tensors that it fills.
        unknown: names of tensors without a place.
    """

    targets: dict[str, list[str]]
    unknown: list[str]


def check_places(
    model: nn.Module, tensors: Mapping[str, LazyTensor], origin: str, declared: str | None = None
) -> dict[str, LazyTensor]:
    """Refuse a checkpoint from which the model would not be loaded exactly.

    Heads of other tasks are left out with a line in the log. Constants that the model makes itself
    are left out silently.

    Args:
        model: on the meta device, or loaded.
        tensors: of the checkpoint; none is read.
        origin: name of the checkpoint, for messages.
        declared: quantized format in config.json; the tensors of its layers were sorted out before.

    Returns:
        The tensors that have a place.

    Raises:
        UserError: if a tensor has no place, shares it with another, holds codes where the model
            has floats, or a parameter of the model gets none.
    """
    places = find_places(model, tensors)
    state = model.state_dict()
    _check_values(places, tensors, state, declared)
    lost = [name for name in places.unknown if not is_constant(model, tensors[name])]
    heads = [name for name in lost if is_head(name)]
    lost = [name for name in lost if name not in heads]
    lost.sort(key=lambda name: _FACTOR.search(name) is None)
    found = {name for names in places.targets.values() for name in names}
    absent = _less_ignorable(model, absent=set(state) - found).missing_keys
    tied = {name for one in find_parameters(model) if found & set(one.names) for name in one.names}
    if absent - tied and not any(map(_FACTOR.search, lost)):
        raise missing(sorted(absent - tied, key=list(state).index), origin)
    if lost:
        raise unplaced(model, lost, str(tensors[lost[0]].file), declared)
    _check_single(places, tensors)
    _tell_heads(sorted(heads))
    return {name: tensor for name, tensor in tensors.items() if name in places.targets}


def find_places(model: nn.Module, names: Iterable[str]) -> Places:
    """Match names of a checkpoint with a model's, as transformers' loader does."""
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    prefix, state = getattr(model, "base_model_prefix", None), model.state_dict()
    targets: dict[str, list[str]] = {}
    renamed: dict[str, str] = {}
    for name in names:
        new, pattern = rename_source_key(name, renamings, converters, prefix, state)
        if new not in state and name in state:
            new, pattern = rename_source_key(name, [], [], prefix, state)
        if new not in state:
            renamed[name] = new
        elif pattern is None:
            targets[name] = [new]
        else:
            ends = by_pattern[pattern].target_patterns
            targets[name] = [new.replace(ends[0], end) for end in ends]
    kept = _less_ignorable(model, unknown=set(renamed.values())).unexpected_keys
    return Places(targets, [name for name, new in renamed.items() if new in kept])


def _less_ignorable(
    model: Any, absent: Iterable[str] = (), unknown: Iterable[str] = ()
) -> LoadStateDictInfo:
    """Names less those that the model's class declares to be ignorable."""
    report = LoadStateDictInfo(
        missing_keys=set(absent),
        unexpected_keys=set(unknown),
        mismatched_keys=set(),
        error_msgs=[],
        conversion_errors={},
        skipped_pp_keys=set(),
    )
    model._adjust_missing_and_unexpected_keys(report)
    return report


def _check_values(
    places: Places,
    tensors: Mapping[str, LazyTensor],
    state: Mapping[str, Tensor],
    declared: str | None,
) -> None:
    """Refuse codes under the name of a float parameter."""
    for name, targets in places.targets.items():
        dtype = tensors[name].dtype
        floats = any(name in state and state[name].is_floating_point() for name in targets)
        if dtype is None or dtype in VALUES or not floats:
            continue
        module = name.rpartition(".")[0]
        beside = [
            one for one in tensors if one.startswith(module) and _QUANTIZED.search(one) is not None
        ]
        scales = f"{beside[0]!r} lies beside it" if beside else "no scales lie beside it"
        says = (
            f"{declared} does not cover it"
            if declared
            else "config.json has no quantization_config that says how it is decoded"
        )
        raise UserError(
            f"model.source: tensor {name!r} of {str(tensors[name].file)!r} is {dtype}, codes where "
            f"the model has floats ({scales}), and {says}; give the config.json that belongs to "
            "the checkpoint, or a checkpoint of floats"
        )


def _check_single(places: Places, tensors: Mapping[str, LazyTensor]) -> None:
    """Refuse two tensors for one parameter: the loader would take one of them."""
    sources: dict[str, list[str]] = defaultdict(list)
    for name, targets in places.targets.items():
        if len(targets) == 1:
            sources[targets[0]].append(name)
    for target, names in sources.items():
        if len(names) > 1 and target in names:
            other = next(name for name in names if name != target)
            raise UserError(
                f"model.source: tensors {target!r} and {other!r} of {str(tensors[other].file)!r} "
                "are both for the same weight of the model; give a checkpoint with one of them"
            )


def is_head(name: str) -> bool:
    """Whether a tensor belongs to the head of another task."""
    return _HEADS.search(name) is not None and _FACTOR.search(name) is None


def is_constant(model: nn.Module, tensor: LazyTensor) -> bool:
    """Whether a model makes this tensor itself, as a constant."""
    if _MASK.search(tensor.name):
        return len(tensor.shape or ()) == 4
    return is_ignorable(model, tensor.name) and not is_head(tensor.name)


def is_ignorable(model: nn.Module, name: str) -> bool:
    """Whether a tensor without a place can be left out, to judge by its name."""
    names = (name, f"{getattr(model, 'base_model_prefix', '')}.{name}")
    return (
        is_head(name)
        or _CONSTANTS.search(name) is not None
        or _MASK.search(name) is not None
        or any(buffer in names for buffer, _ in model.named_buffers())
    )


def _tell_heads(names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more tensors" if len(names) > 1 else ""
        log.warning("left out, as the head of another task: %s%s", names[0], more)


def unplaced(model: nn.Module, names: list[str], file: str, declared: str | None) -> UserError:
    """The error for tensors without a place in the model."""
    more = f" and {len(names) - 1} more have" if len(names) > 1 else " has"
    reason, advice = _reason(model, names[0], declared)
    return UserError(
        f"model.source: tensor {names[0]!r} of {file!r}{more} no place in the "
        f"{type(model).__name__} that config.json describes ({reason}); {advice}"
    )


def _reason(model: nn.Module, name: str, declared: str | None) -> tuple[str, str]:
    advice = "give the config.json that belongs to the checkpoint"
    if _FACTOR.search(name):
        return (
            "it is part of an adapter",
            "merge the adapter into the weights first (merge_and_unload of peft), or give its "
            "folder in adapter.start_from",
        )
    if _QUANTIZED.search(name):
        if declared is not None:
            return f"{declared} has no such tensor", advice
        return (
            "it belongs to codes, but config.json has no quantization_config",
            f"{advice}, or a checkpoint of floats",
        )
    parent, _, leaf = name.rpartition(".")
    here = _submodule(model, parent)
    if leaf == "bias" and here is not None:
        return "the layer there has no bias, as config.json announces none", advice
    parts = name.split(".")
    for place, part in enumerate(parts):
        blocks = _submodule(model, ".".join(parts[:place])) if part.isdigit() else None
        if isinstance(blocks, nn.ModuleList) and int(part) >= len(blocks):
            return f"the model has {len(blocks)} such blocks", advice
    return "it has nothing of that name", advice


def _submodule(model: nn.Module, path: str) -> nn.Module | None:
    """A submodule by its name in the model, or in its base model."""
    prefix = getattr(model, "base_model_prefix", "")
    for name in (path, f"{prefix}.{path}"):
        try:
            return model.get_submodule(name)
        except AttributeError:
            continue
    return None


def missing(names: list[str], origin: str) -> UserError:
    """The error for parameters of the model that the checkpoint lacks."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return UserError(
        f"model.source: {origin!r} holds no tensor {names[0]!r}{more}, which its configuration "
        "asks for; copy or download the whole checkpoint with the configuration that belongs to it"
    )


def not_converted(origin: str, error: Exception) -> UserError:
    """The error for tensors that transformers could not convert for the model."""
    said = " ".join(str(error).split())
    return UserError(
        f"model.source: the tensors of {origin!r} do not fit the model that config.json describes "
        f"({said}); give the config.json that belongs to the checkpoint"
    )
