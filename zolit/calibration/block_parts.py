"""The parts of a block that hold several linear layers: its attention and its MLP."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from zolit.calibration.calls import hidden_states, run_block
from zolit.calibration.float_block import Example, FloatBlock
from zolit.calibration.layers import BlockLayer
from zolit.calibration.region import Region
from zolit.errors import UserError


@dataclass(frozen=True)
class BlockPart:
    """A module directly below a block.

    Attributes:
        name: of the module in the block.
        layers: its linear layers.
    """

    name: str
    layers: tuple[BlockLayer, ...]


def block_parts(region: Region) -> list[BlockPart]:
    """The modules directly below a block that hold its layers, in the order of the model.

    Raises:
        UserError: naming a layer that stands in none of them, as the MLP of OPT does.
    """
    found: dict[str, list[BlockLayer]] = {}
    for layer in region.layers:
        part, inside, _ = layer.name.partition(".")
        if not inside:
            raise UserError(
                f"part: got halves, but {layer.path} stands in no module of {region.path} with "
                "other layers; take part: block"
            )
        found.setdefault(part, []).append(layer)
    return [BlockPart(name, tuple(layers)) for name, layers in found.items()]


def part_distance(block: FloatBlock, part: BlockPart, example: Example) -> Tensor:
    """``||g(x) - g_dense(x)||^2`` of a part g, by the inputs that it has in the dense block.

    Args:
        block: whose masters are differentiated; the model's own block is still dense.
        part: of the block.
        example: a window.

    Returns:
        A float32 scalar whose gradient can be asked for.

    Raises:
        UserError: naming the block, if it is NaN or infinite.
    """
    region = block.region
    caught: list[tuple[Any, Mapping[str, Any], Tensor]] = []

    def catch(module: nn.Module, args: Any, kwargs: Mapping[str, Any], result: Any) -> None:
        caught.append((args, kwargs, hidden_states(result)))

    module = region.block.get_submodule(part.name)
    hook = module.register_forward_hook(catch, with_kwargs=True)
    try:
        with torch.no_grad():
            run_block(region.block, example.hidden, example.rest)
    finally:
        hook.remove()
    args, kwargs, target = caught[0]
    floats = tree_map(lambda one: one.float() if _is_float(one) else one, (args, dict(kwargs)))
    with torch.enable_grad():
        found = (block.run_part(part.name, *floats) - target.float()).square().sum()
    if not found.isfinite():
        raise UserError(
            f"model.source: the output of {region.path}.{part.name} is NaN or infinite while its "
            f"weights are fitted, for window {example.number} of the text; lower lr of the "
            "reconstruction"
        )
    return found


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
