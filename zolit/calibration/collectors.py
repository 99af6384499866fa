"""Statistics of the inputs of a block's layers, gathered while text runs through the block."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from zolit.calibration.walker import Step


@torch.no_grad()
def full_moments(step: Step, layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """Sum of ``x x^T`` over the inputs x of linear layers, while their block runs on all windows.

    Args:
        step: the block and its inputs.
        layers: of the block, by name.

    Returns:
        ``[columns, columns]`` float32 by name of the layer.
    """
    found = {
        name: torch.zeros(layer.in_features, layer.in_features) for name, layer in layers.items()
    }

    def add(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            x = args[0].flatten(0, -2).float()
            found[name].addmm_(x.t(), x)

        return hook

    hooks = [layer.register_forward_pre_hook(add(name)) for name, layer in layers.items()]
    try:
        for _ in step.outputs():
            pass
    finally:
        for hook in hooks:
            hook.remove()
    return found
