"""What each parameter of a model becomes: decided from names and shapes alone.

A plan needs no weights, so it is made on the meta device before a checkpoint is read.
"""

import difflib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.models.adapters.base import Factor
from zolit.models.experts import BIASES, WEIGHTS, is_experts

KINDS = ("linear", "output", "embeddings", "norms", "biases", "adapter")
"""Words of `tune` besides parameter-name patterns."""


@dataclass(frozen=True)
class Found:
    """A parameter of a model.

    Attributes:
        names: every name that it has in the model, the first first; tied weights have several.
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


@dataclass(frozen=True)
class Planned:
    """A parameter that will be stored by zolit.

    Attributes:
        names: every name that it has in the model; the first is its path.
        index: its place among the perturbed weights, None if it never moves.
        quantized: whether the quantizer stores it; otherwise it keeps its floats.
        transposed: whether the module holds ``[columns, rows]`` (GPT-2's Conv1D, experts of
            gpt-oss).
    """

    names: tuple[str, ...]
    index: int | None
    quantized: bool
    transposed: bool

    @property
    def path(self) -> str:
        """The name that it is known by."""
        return self.names[0]


@dataclass(frozen=True)
class Plan:
    """What becomes of a model.

    Attributes:
        weights: the parameters that zolit stores, in the order of the model.
        pairable: whether every tuned weight can be read in two versions in one pass.
    """

    weights: tuple[Planned, ...]
    pairable: bool


def make_plan(model: nn.Module, tune: list[str]) -> Plan:
    """Decide what is quantized and what moves.

    Every linear layer but the output layer is quantized, tuned or not; of the other parameters
    only those are stored by zolit that are tuned. The experts of a layer are linear layers too.

    Args:
        model: a transformers model, on any device, with its weights tied; not changed.
        tune: words of `KINDS` or parameter-name patterns (``*`` and ``?``).

    Raises:
        UserError: if an entry of ``tune`` names nothing.
    """
    found = find_parameters(model)
    chosen = _selected(found, tune)
    inputs = getattr(model, "get_input_embeddings", lambda: None)()
    weights: list[Planned] = []
    index, pairable = 0, True
    for one in found:
        tuned, quantized = one.path in chosen, one.kind == "linear"
        if not tuned and not quantized:
            continue
        transposed = quantized and is_transposed(one.modules[0])
        weights.append(Planned(one.names, index if tuned else None, quantized, transposed))
        if tuned:
            index += 1
            pairable = pairable and _pairable(one, inputs)
    return Plan(tuple(weights), pairable)


def find_parameters(model: nn.Module) -> list[Found]:
    """Parameters in the order of the model, each with its kind."""
    output = getattr(model, "get_output_embeddings", lambda: None)()
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


def _selected(found: list[Found], tune: list[str]) -> set[str]:
    """Paths of the parameters that ``tune`` names."""
    chosen: set[str] = set()
    for entry in tune:
        hits = [f.path for f in found if f.kind == entry or fnmatchcase(f.path, entry)]
        # A tied output layer is listed as the embedding that it shares its weight with.
        if entry == "output":
            hits += [f.path for f in found if _is_tied_output(f)]
        if not hits:
            near = difflib.get_close_matches(entry, [*KINDS, *(f.path for f in found)], n=3)
            raise UserError(
                f"tune: {entry!r} names no parameter of the model; expected one of "
                f"{', '.join(KINDS)} or a parameter-name pattern"
                + (f", such as {', '.join(near)}" if near else "")
            )
        chosen.update(hits)
    return chosen


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
