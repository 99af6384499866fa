"""Prune a block once, and fit what is left to what the dense block gave."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from zolit.calibration.block_parts import block_parts, part_distance
from zolit.calibration.float_block import (
    Example,
    FloatBlock,
    drawn_windows,
    examples,
    squared_distance,
)
from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.one_shot import check_finite, prune_region
from zolit.strategies.pruner.pattern import Pattern
from zolit.strategies.reconstruction.base import Reconstruction


class BlockReconstruction(Reconstruction):
    """Adam on the entries that pruning left, towards the outputs of the dense block.

    EBFT (Guo et al. 2024, arXiv 2402.12419) fits each block so, and *A free lunch in LLM
    compression* (arXiv 2510.14444) its attention and its MLP apart. Zeros get no gradient and stay
    zero. The rate falls to 0 in a straight line. Weights are float32 until the block is done.

    Args:
        steps: of Adam for each block, or for each half.
        inputs: windows of a step; drawn anew when all have been used.
        lr: of the first step.
        part: ``block``: the distance is that of the block's output. ``halves``: attention and MLP
            are fitted one by one, each to what the dense one gives for the inputs that it has in
            the dense block.
        seed: draws the order of the windows.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> BlockReconstruction(steps=64).part
        'block'
    """

    def __init__(
        self,
        steps: int = 128,
        inputs: int = 4,
        lr: float = 1e-4,
        part: Literal["block", "halves"] = "block",
        seed: int = 0,
    ) -> None:
        for name, value in (("steps", steps), ("inputs", inputs)):
            if value < 1:
                raise UserError(f"{name}: got {value}, expected at least 1; try 4")
        if not 0 < lr < float("inf"):
            raise UserError(f"lr: got {lr}, expected a positive number; try 1e-4")
        if part not in ("block", "halves"):
            raise UserError(f"part: got {part!r}, expected block or halves")
        self.steps = steps
        self.inputs = inputs
        self.lr = lr
        self.part = part
        self.seed = seed

    def rebuild(self, region: Region, pruner: Pruner, pattern: Pattern) -> dict[str, PrunedWeight]:
        parts = block_parts(region) if self.part == "halves" else []
        pruned = prune_region(region, pruner, pattern)
        block = FloatBlock(region)
        kept: dict[str, Tensor] = {}
        for layer in region.layers:
            block.set(layer, pruned[layer.path].values)
            kept[layer.path] = layer.as_held(pruned[layer.path].kept)
        if parts:
            for part in parts:
                some = {layer.path: kept[layer.path] for layer in part.layers}
                self._fit(block, some, partial(part_distance, block, part))
        else:
            self._fit(block, kept, partial(squared_distance, block))
        for layer in region.layers:
            left = pruned[layer.path].kept
            pruned[layer.path] = PrunedWeight(block.matrix(layer) * left, left)
            check_finite(pruned[layer.path], layer.path, type(self).__name__)
        return pruned

    def _fit(
        self,
        block: FloatBlock,
        kept: Mapping[str, Tensor],
        distance: Callable[[Example], Tensor],
    ) -> None:
        """Move the masters of some layers, where entries are left, so that a distance falls."""
        masters = {path: block.masters[path] for path in kept}
        optimizer = torch.optim.Adam(masters.values(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.LinearLR(
            optimizer, start_factor=1.0, end_factor=0.0, total_iters=self.steps
        )
        for numbers in drawn_windows(block.region, self.steps, self.inputs, self.seed):
            optimizer.zero_grad()
            for example in examples(block.region, numbers):
                (distance(example) / example.target.numel() / len(numbers)).backward()
            for path, master in masters.items():
                if master.grad is not None:
                    master.grad.mul_(kept[path])
            optimizer.step()
            schedule.step()
        optimizer.zero_grad()
