"""What each parameter of a model becomes: decided from names and shapes alone.

A plan needs no weights, so it is made on the meta device before a checkpoint is read.
"""

import logging
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import Tensor, nn

from zolit.compat import Conv1D
from zolit.errors import UserError, nearest_names
from zolit.models.adapters.base import Factor
from zolit.models.anatomy import input_embeddings, named_blocks, output_layer
from zolit.models.experts import BIASES, WEIGHTS, is_experts

log = logging.getLogger(__name__)

KINDS = ("linear", "output", "embeddings", "norms", "biases", "adapter")
"""Words of `tune` besides parameter-name patterns."""

_NO_REGEX = "; patterns are no regular expressions: * stands for any text, as in '*.mlp.*'"


@dataclass(frozen=True)
class Found:
    """A parameter of a model.

    Attributes:
        names: every name that it has in the model; tied weights have several.
        parameter: the parameter.
        modules: the module that holds it under each name.
        kind: one of `KINDS` or ``other``.
    """

    names: tuple[str, ...]
    parameter: nn.Parameter
    modules: tuple[nn.Module, ...]
    kind: str

    @property
    def path(self) -> str:
        """The name that it is known by."""
        return self.names[0]

    def as_stored(self) -> Tensor:
        """A view of a float parameter, its output channels before its input channels."""
        value = self.parameter.data
        if self.kind == "linear":
            return value.mT if is_transposed(self.modules[0]) else value
        return value.view(1, -1) if value.dim() < 2 else value.view(value.shape[0], -1)


@dataclass(frozen=True)
class Planned:
    """A parameter that will be stored by zolit.

    Attributes:
        names: every name that it has in the model; the first is its path.
        index: its place among the perturbed weights, None if it never moves.
        quantized: whether the quantizer stores it; otherwise it keeps its floats.
        transposed: whether the module holds ``[columns, rows]`` (GPT-2's Conv1D, experts of
            gpt-oss).
        block: number of its block, of those that hold a weight that moves; what lies outside of the
            blocks comes last, as one. 0 if it never moves.
        blocks: how many numbers there are.
    """

    names: tuple[str, ...]
    index: int | None
    quantized: bool
    transposed: bool
    block: int = 0
    blocks: int = 0

    @property
    def path(self) -> str:
        """The name that it is known by."""
        return self.names[0]


@dataclass(frozen=True)
class Plan:
    """What becomes of the parameters of a model.

    Attributes:
        weights: the parameters that zolit stores, in the order of the model.
        pairable: whether every tuned weight can be read in two versions in one pass.
        unread: paths of parameters that ``tune`` names and no forward reads.
        idle: paths of all parameters that no forward reads.
    """

    weights: tuple[Planned, ...]
    pairable: bool
    unread: tuple[str, ...] = ()
    idle: frozenset[str] = frozenset()

    def tell(self) -> None:
        """Log which weights are not tuned because nothing reads them, if there are any."""
        if self.unread:
            named = len(self.unread) + sum(one.index is not None for one in self.weights)
            log.warning(
                "%d of the %d weights that tune names are read by no forward (%s): they are not "
                "tuned and stay as they are",
                len(self.unread),
                named,
                ", ".join(branches(self.unread, (one.path for one in self.weights))),
            )


def make_plan(
    model: nn.Module,
    tune: list[str],
    read: Set[str] | None = None,
    converts: bool = True,
    part: str | None = None,
) -> Plan:
    """Decide what is quantized and what moves.

    Every linear layer but the output layer is quantized, tuned or not. Of the other parameters
    zolit stores only those that are tuned. The experts of a layer are linear layers too. Parameters
    that no forward reads stay as they are, such as the vision tower of a model that is given text.

    Args:
        model: a transformers model, on any device, with its weights tied; not changed.
        tune: words of `KINDS` or parameter-name patterns (``*`` and ``?``).
        read: names of the parameters that a forward reads; None: all.
        converts: whether the quantizer makes codes from floats. If it keeps the codes of a
            checkpoint instead, it also keeps those of layers that no forward reads.
        part: path of the module of which ``tune`` names what moves; None for the whole model.

    Raises:
        UserError: if an entry of ``tune`` names nothing, or nothing that is read; or if ``part``
            holds nothing of what it names.
    """
    found = find_parameters(model)
    unread = {f.path for f in found if read is not None and read.isdisjoint(f.names)}
    chosen = _selected(found, tune, unread)
    if part is not None:
        chosen = _inside(found, chosen, part, unread)
    inputs = input_embeddings(model)
    weights: list[Planned] = []
    index, pairable = 0, True
    for one in found:
        idle = one.path in unread
        tuned = one.path in chosen and not idle
        quantized = one.kind == "linear" and not (idle and converts)
        if not tuned and not quantized:
            continue
        transposed = quantized and is_transposed(one.modules[0])
        weights.append(Planned(one.names, index if tuned else None, quantized, transposed))
        if tuned:
            index += 1
            pairable = pairable and _pairable(one, inputs)
    named = tuple(f.path for f in found if f.path in chosen & unread)
    return Plan(tuple(_numbered(model, weights)), pairable, named, frozenset(unread))


def _numbered(model: nn.Module, weights: list[Planned]) -> list[Planned]:
    """The same, those that move with the numbers of their blocks."""
    moving = (one.path for one in weights if one.index is not None)
    found = block_numbers(model, {path: model.get_parameter(path) for path in moving})
    count = max(found.values(), default=-1) + 1
    return [
        replace(one, block=found[one.path], blocks=count) if one.path in found else one
        for one in weights
    ]


def block_numbers(model: nn.Module, moving: Mapping[str, Tensor]) -> dict[str, int]:
    """For each weight that moves the number of its block, of those that hold one; by its path.

    What lies outside of the blocks comes last, as one.

    Args:
        model: that holds them.
        moving: the weights by path.
    """
    blocks = named_blocks(model).values()
    # From the last, so that a tied weight belongs to the first block that has it.
    inside = {
        id(parameter): place
        for place, block in reversed(list(enumerate(blocks)))
        for parameter in block.parameters()
    }
    places = {path: inside.get(id(one), len(blocks)) for path, one in moving.items()}
    order = {place: number for number, place in enumerate(sorted(set(places.values())))}
    return {path: order[place] for path, place in places.items()}


def branches(apart: Iterable[str], others: Iterable[str]) -> list[str]:
    """The outermost modules that hold parameters of ``apart`` and none of ``others``.

    The numbers of blocks are removed from their names, so that the same part of all blocks comes
    once.

    Args:
        apart: paths of parameters.
        others: paths of the other parameters.
    """
    taken = {start for path in others for start in _starts(path)}
    found = (next((start for start in _starts(path) if start not in taken), path) for path in apart)
    return list(dict.fromkeys(found))


def _starts(path: str) -> list[str]:
    """The modules around a parameter, the outermost first."""
    parts = ["*" if part.isdigit() else part for part in path.split(".")]
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def find_parameters(model: nn.Module) -> list[Found]:
    """Parameters in the order of the model, each with its kind."""
    output = output_layer(model)
    places: dict[int, list[tuple[str, nn.Parameter, nn.Module]]] = {}
    for module_path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            path = f"{module_path}.{name}" if module_path else name
            places.setdefault(id(parameter), []).append((path, parameter, module))
    found: list[Found] = []
    for same in places.values():
        names, parameters, modules = zip(*same, strict=True)
        kind = _kind(modules[0], names[0].rpartition(".")[2], output)
        found.append(Found(names, parameters[0], modules, kind))
    return found


def _kind(module: nn.Module, name: str, output: nn.Module | None) -> str:
    if isinstance(module, Factor):
        return "adapter"
    if "norm" in type(module).__name__.lower():
        return "norms"
    if is_experts(module):
        return "linear" if name in WEIGHTS else "biases" if name in BIASES else "other"
    if name == "bias":
        return "biases"
    if module is output:
        return "output"
    if isinstance(module, nn.Linear | Conv1D):
        return "linear"
    return "embeddings" if isinstance(module, nn.Embedding) else "other"


def is_transposed(module: nn.Module) -> bool:
    """Whether a module holds its matrices as ``[columns, rows]``."""
    return isinstance(module, Conv1D) or (is_experts(module) and bool(module.is_transposed))


def _selected(found: list[Found], tune: list[str], unread: set[str]) -> set[str]:
    """Paths of the parameters that ``tune`` names, read or not."""
    chosen: set[str] = set()
    for entry in tune:
        hits = [f.path for f in found if f.kind == entry or fnmatchcase(f.path, entry)]
        # A tied output layer is listed as the embedding that it shares its weight with.
        if entry == "output":
            hits += [f.path for f in found if _is_tied_output(f)]
        if not hits:
            near = nearest_names(entry, [*KINDS, *(f.path for f in found)], alike=0.6)
            raise UserError(
                f"tune: {entry!r} names no parameter of the model; expected one of "
                f"{', '.join(KINDS)} or a parameter-name pattern"
                + (f", such as {', '.join(near)}" if near else "")
                + (_NO_REGEX if set(entry) & set("\\^$|()+") or ".*" in entry else "")
            )
        if unread.issuperset(hits):
            others = (f.path for f in found if f.path not in unread)
            raise UserError(
                f"tune: {entry!r} names nothing that the loss depends on: no forward on a prompt "
                f"reads {', '.join(branches(hits, others))}; leave it out, or give an objective "
                "that feeds it"
            )
        chosen.update(hits)
    return chosen


def _inside(found: list[Found], chosen: set[str], part: str, unread: set[str]) -> set[str]:
    """Those of the chosen paths that lie in a module, under any of their names."""
    start = f"{part}."
    inside = {f.path for f in found if any(name.startswith(start) for name in f.names)}
    if chosen & inside <= unread:
        raise UserError(
            f"tune: names nothing in {part}, which the mask chose to move alone; name weights of "
            "it, such as linear, or give another mask"
        )
    return chosen & inside


def _is_tied_output(found: Found) -> bool:
    return any(isinstance(m, nn.Embedding) for m in found.modules) and any(
        isinstance(m, nn.Linear) for m in found.modules
    )


def _pairable(found: Found, inputs: nn.Module | None) -> bool:
    return all(
        isinstance(m, nn.Linear | Conv1D)
        or m is inputs
        or (is_experts(m) and found.kind != "other")
        for m in found.modules
    )
