"""Replaces the weights of a model block by block, each fitted to the inputs of its layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zolit.calibration.collectors import full_moments
from zolit.calibration.walker import walk
from zolit.errors import UserError
from zolit.models.anatomy import named_blocks

Replace = Callable[[str, Tensor, Tensor], Tensor]
"""``replace(path, weight, moments)``: the new values of a ``[rows, columns]`` weight. ``moments``,
``[columns, columns]`` float32, is the sum of ``x x^T`` over the inputs x of its layer."""


@torch.no_grad()
def replace_weights(model: nn.Module, windows: Tensor, replace: Replace) -> None:
    """Replace the weights of all linear layers in the model's blocks, block after block.

    Each block is fitted to inputs that come from the new weights of the blocks before it. The order
    is that in which the model calls its blocks (`zolit.calibration.walker.walk`).

    Args:
        model: a transformers model, changed in place.
        windows: ``[samples, length]`` token ids.
        replace: gives the new values of a weight.

    Raises:
        UserError: if the model has no list of blocks.
    """
    layers = {path: linear_layers(block) for path, block in named_blocks(model).items()}
    blocks = {path: model.get_submodule(path) for path, found in layers.items() if found}
    if not blocks:
        raise UserError(
            f"a calibrated quantizer replaces weights block after block, but "
            f"{type(model).__name__} has no list of blocks with linear layers; use quantizer Int4 "
            "or HQQ"
        )
    for step in walk(model, windows, blocks):
        moments = full_moments(step, layers[step.path])
        for name, layer in layers[step.path].items():
            path = f"{step.path}.{name}.weight"
            layer.weight.copy_(replace(path, layer.weight.data, moments[name]))


def linear_layers(block: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a block by name."""
    return {name: one for name, one in block.named_modules() if isinstance(one, nn.Linear)}
