"""Stacks the experts of a quantized checkpoint, which holds them one by one.

Since version 5 transformers keeps the experts of a layer as one parameter for each product. It
stacks the matrices of a checkpoint: expert below expert, the rows of the up projection below those
of the gate. Codes and scales that belong to rows are stacked in the same way.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from zolit.compat import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    get_model_conversion_mapping,
    rename_source_key,
)
from zolit.errors import UserError
from zolit.formats.affine import AffineWeight
from zolit.formats.base import StoredWeight


@dataclass(frozen=True)
class Stack:
    """A parameter of the model, ``[experts, rows, columns]``.

    Attributes:
        modules: of the checkpoint, in the order of the stack.
        rows: outputs of each.
        columns: inputs of each.
    """

    modules: tuple[str, ...]
    rows: int
    columns: int


def find_stacks(model: nn.Module, modules: Iterable[str]) -> dict[str, Stack]:
    """The stacks that are made from modules of a checkpoint, by the names of their parameters.

    Args:
        model: on the meta device.
        modules: names of the quantized modules of the checkpoint; some may be in no stack.

    Raises:
        UserError: if a stack is not complete.
    """
    mapping = get_model_conversion_mapping(model)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter) and _stacks(one)]
    prefix, state = getattr(model, "base_model_prefix", None), model.state_dict()
    found: dict[str, dict[tuple[int, int], str]] = defaultdict(dict)
    kinds: dict[str, int] = {}
    for module in modules:
        source = f"{module}.weight"
        name, pattern = rename_source_key(source, renamings, converters, prefix, state)
        number = None if pattern is None else re.search(_numbered(pattern), source)
        if number is None or name not in state or state[name].dim() != 3:
            continue
        converter = next(one for one in converters if pattern in one.source_patterns)
        place = converter.source_patterns.index(pattern)
        found[name][int(number[1]), place] = module
        kinds[name] = len(converter.source_patterns)
    stacks: dict[str, Stack] = {}
    for name, places in found.items():
        count, rows, columns = state[name].shape
        wanted = {(expert, place) for expert in range(count) for place in range(kinds[name])}
        if places.keys() != wanted:
            expert = min(wanted ^ places.keys())[0]
            raise UserError(
                f"model.source: the experts of {name!r} are not all quantized alike (expert "
                f"{expert} of {count}); give the whole checkpoint, with the config.json that "
                "belongs to it"
            )
        ordered = tuple(places[place] for place in sorted(wanted))
        stacks[name] = Stack(ordered, rows // kinds[name], columns)
    return stacks


def _stacks(converter: WeightConverter) -> bool:
    """Whether a conversion only merges experts and puts rows below one another."""
    merge, *others = converter.operations
    return (
        isinstance(merge, MergeModulelist)
        and merge.dim == 0
        and all(isinstance(one, Concatenate) and one.dim == 1 for one in others)
        and len(converter.target_patterns) == 1
        and len(others) == (len(converter.source_patterns) > 1)
    )


def _numbered(pattern: str) -> str:
    """A pattern of transformers as a regular expression; group 1 is the expert's number."""
    return re.escape(pattern).replace(r"\*", r"(\d+)") + "$"


def stack_stores(stores: Sequence[StoredWeight], name: str) -> StoredWeight:
    """Stack weights of one format: the rows of each below those of the one before.

    Args:
        stores: of one type.
        name: of the stack, for messages.

    Raises:
        UserError: if they are of several formats, or of one whose rows depend on one another.
    """
    parts = [store.tensors() for store in stores]
    if any("zero" in part for part in parts):
        parts = [
            part | ({"zero": store.zeros()} if isinstance(store, AffineWeight) else {})
            for store, part in zip(stores, parts, strict=True)
        ]
    alike = {(type(store), frozenset(part)) for store, part in zip(stores, parts, strict=True)}
    if len(alike) > 1 or not isinstance(stores[0], AffineWeight):
        raise UserError(
            f"model.source: the experts of {name!r} are kept in several ways, or in one "
            f"({stores[0].title}) that cannot be stacked; give the float model and "
            "one of zolit's own quantizers"
        )
    return stores[0].replace({one: torch.cat([part[one] for part in parts]) for one in parts[0]})
