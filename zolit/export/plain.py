"""A fine-tuned model as plain floats in safetensors."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zolit.formats.sparse_overlay import SparseOverlay
from zolit.tensors.weight import PerturbedWeight

Replacement = Callable[[PerturbedWeight], Tensor]
"""Makes the tensor that replaces a stored weight in an exported model."""


def decoded(weight: PerturbedWeight) -> Tensor:
    """The floats that a weight reads as, in the model's shape and dtype."""
    with torch.no_grad():
        return weight.dense()


def to_plain(model: nn.Module, replacement: Replacement = decoded) -> None:
    """Replace every stored weight in place; tied weights stay tied.

    Args:
        model: prepared.
        replacement: called once for each weight; by default it decodes the weight to floats.
    """
    made: dict[int, nn.Parameter] = {}
    for module, name, weight in stored_places(model):
        if id(weight) not in made:
            made[id(weight)] = nn.Parameter(replacement(weight), False)
        module._parameters[name] = made[id(weight)]


def stored_places(model: nn.Module) -> Iterator[tuple[nn.Module, str, PerturbedWeight]]:
    """Each module with a stored weight, the weight's name in it, and the weight.

    A tied weight comes once for each module.
    """
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if isinstance(parameter, PerturbedWeight):
                yield module, name, parameter


def save_plain(model: Any, folder: Path) -> list[str]:
    """Write weights as safetensors, and the configuration.

    Args:
        model: a transformers model; its stored weights are replaced by floats.
        folder: that exists.

    Returns:
        Sentences on what is not as it was in the run.
    """
    notes = rounded_floats(model)
    to_plain(model)
    model.save_pretrained(folder)
    return notes


def rounded_floats(model: Any) -> list[str]:
    """A sentence on floats beside codes, which lose digits where a matrix is not float32.

    Args:
        model: with its stored weights.
    """
    weights = {id(weight): weight for _, _, weight in stored_places(model)}.values()
    overlays = sum(
        isinstance(weight.store, SparseOverlay) and weight.dtype != torch.float32
        for weight in weights
    )
    if not overlays:
        return []
    dtype = str(model.dtype).removeprefix("torch.")
    return [
        f"{overlays} weights have floats beside their codes, which the run kept as float32; they "
        f"are written as they were read, rounded to {dtype}"
    ]
