"""Turn a loaded model's weights into stored weights that read perturbed."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.affine import AffineWeight
from zolit.tensors.dense import DenseWeight
from zolit.tensors.reading import Reading
from zolit.tensors.store import StoredWeight
from zolit.tensors.update import quantization_error
from zolit.tensors.weight import PerturbedWeight

KINDS = ("linear", "output", "embeddings", "norms", "biases")
"""Words of `tune` besides parameter-name patterns."""


@dataclass(frozen=True)
class Found:
    """A parameter of a model and every module that holds it (tied weights have several)."""

    path: str
    parameter: nn.Parameter
    holders: tuple[tuple[nn.Module, str], ...]
    kind: str


def find_parameters(model: nn.Module) -> list[Found]:
    """Parameters in the order of the model, each with its kind: one of `KINDS` or ``other``."""
    output = _output_layer(model)
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    first: dict[int, tuple[str, nn.Parameter, str]] = {}
    for module_path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            holders.setdefault(id(parameter), []).append((module, name))
            path = f"{module_path}.{name}" if module_path else name
            kind = _kind(module, name, output)
            first.setdefault(id(parameter), (path, parameter, kind))
    return [
        Found(path, parameter, tuple(holders[key]), kind)
        for key, (path, parameter, kind) in first.items()
    ]


def _output_layer(model: nn.Module) -> nn.Module | None:
    getter = getattr(model, "get_output_embeddings", None)
    return None if getter is None else getter()


def _kind(module: nn.Module, name: str, output: nn.Module | None) -> str:
    if "norm" in type(module).__name__.lower():
        return "norms"
    if name == "bias":
        return "biases"
    if module is output:
        return "output"
    if isinstance(module, nn.Linear | Conv1D):
        return "linear"
    return "embeddings" if isinstance(module, nn.Embedding) else "other"


def _selected(found: list[Found], tune: list[str]) -> set[str]:
    """Paths of the parameters that ``tune`` names.

    Raises:
        UserError: if an entry names nothing.
    """
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
    modules = [module for module, _ in found.holders]
    return any(isinstance(m, nn.Embedding) for m in modules) and any(
        isinstance(m, nn.Linear) for m in modules
    )


def prepare(
    model: nn.Module, quantizer: Quantizer, perturber: Perturber, reading: Reading, tune: list[str]
) -> bool:
    """Store the model's linear layers in the quantizer's format and give tuned weights a site.

    Every linear layer but the output layer is quantized, tuned or not; other parameters keep
    their floats, and share their storage with the model if they are tuned.

    Args:
        model: a loaded transformers model, changed in place.
        quantizer: storage format.
        perturber: coordinates of the tuned weights.
        reading: state that the weights will share.
        tune: words of `KINDS` or parameter-name patterns (``*`` and ``?``).

    Returns:
        Whether every tuned weight can be read in two versions in one pass.

    Raises:
        UserError: if ``tune`` names nothing or the quantizer cannot hold a weight.
    """
    found = find_parameters(model)
    chosen = _selected(found, tune)
    inputs = getattr(model, "get_input_embeddings", lambda: None)()
    index, pairable = 0, True
    for one in found:
        tuned = one.path in chosen
        if not tuned and one.kind != "linear":
            continue
        module = one.holders[0][0]
        transposed = isinstance(module, Conv1D) and one.kind == "linear"
        with torch.no_grad():
            matrix = _matrix(one.parameter.data, transposed)
            store: StoredWeight = (
                quantizer.store(matrix, one.path) if one.kind == "linear" else DenseWeight(matrix)
            )
            if tuned and quantizer.keep_error and isinstance(store, AffineWeight):
                store.error = quantization_error(store, matrix)
        site = perturber.site(index, store) if tuned else None
        if tuned:
            index += 1
            pairable = pairable and _pairable(one, inputs)
        if site is None and not store.quantized:
            continue
        weight = PerturbedWeight(
            store,
            site,
            reading,
            one.path,
            one.parameter.shape,
            one.parameter.dtype,
            transposed,
        )
        replacement = nn.Parameter(weight, requires_grad=False)
        for holder, name in one.holders:
            holder._parameters[name] = replacement
    return pairable


def _matrix(value: Tensor, transposed: bool) -> Tensor:
    """A parameter as ``[rows, columns]``, output channels first."""
    if transposed:
        return value.t().contiguous()
    return value.reshape(1, -1) if value.dim() < 2 else value.reshape(value.shape[0], -1)


def _pairable(found: Found, inputs: nn.Module | None) -> bool:
    return all(
        isinstance(module, nn.Linear | Conv1D) or module is inputs for module, _ in found.holders
    )


def stored_weights(model: nn.Module) -> Iterator[PerturbedWeight]:
    """Every weight of the model that zolit stores, tuned or not; ties come once."""
    for parameter in model.parameters():
        if isinstance(parameter, PerturbedWeight):
            yield parameter
