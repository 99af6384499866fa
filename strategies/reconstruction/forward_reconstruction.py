"""Fit what pruning left to the dense outputs with forward passes only."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from zolit.calibration.float_block import Example, FloatBlock, drawn_windows, examples
from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.noise import fold
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.one_shot import check_finite, prune_region
from zolit.strategies.pruner.pattern import Pattern
from zolit.strategies.reconstruction.base import Reconstruction

_RIDGE = 1e-3
"""Added to the diagonal of the normal equations, as a fraction of its mean."""

Matrices = Mapping[str, Tensor]
"""``[rows, columns]`` float32 of each layer, by the path of its weight."""


class ForwardReconstruction(Reconstruction):
    """Zeroth-order steps on a block's output error: no backward pass is made.

    A step draws some directions, runs the block once as it is and once along each direction, and
    takes the differences of the outputs as derivatives. If these were exact, the combination of
    directions that brings the output nearest to the dense one would be the solution of a least
    squares problem with one unknown for each direction: Gauss-Newton in a random subspace. It is
    taken, unless the windows of the step come out worse by it.

    With d coordinates, ``steps * directions`` should not be small beside d: of the error that all
    of them together can mend, one random direction mends about a d-th.

    Args:
        steps: for each block.
        directions: of a step.
        inputs: windows of a step; drawn anew when all have been used.
        eps: length of a direction, in units of each coordinate.
        moves: ``scales``: a factor of each output channel of each layer, some thousands of
            coordinates in a block, in units of the channel; ``weights``: each entry that is left,
            in units of the root mean square of its matrix.
        seed: draws windows and directions.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> ForwardReconstruction(steps=8).moves
        'scales'
    """

    def __init__(
        self,
        steps: int = 32,
        directions: int = 16,
        inputs: int = 4,
        eps: float = 1e-2,
        moves: Literal["scales", "weights"] = "scales",
        seed: int = 0,
    ) -> None:
        for name, value in (("steps", steps), ("directions", directions), ("inputs", inputs)):
            if value < 1:
                raise UserError(f"{name}: got {value}, expected at least 1; try 4")
        if not 0 < eps < float("inf"):
            raise UserError(f"eps: got {eps}, expected a positive number; try 1e-2")
        if moves not in ("scales", "weights"):
            raise UserError(f"moves: got {moves!r}, expected scales or weights")
        self.steps = steps
        self.directions = directions
        self.inputs = inputs
        self.eps = eps
        self.moves = moves
        self.seed = seed

    @torch.no_grad()
    def rebuild(self, region: Region, pruner: Pruner, pattern: Pattern) -> dict[str, PrunedWeight]:
        pruned = prune_region(region, pruner, pattern)
        block = FloatBlock(region)
        at: Matrices = {path: one.values for path, one in pruned.items()}
        for step, drawn in enumerate(drawn_windows(region, self.steps, self.inputs, self.seed)):
            at = self._step(block, at, drawn, fold(self.seed, region.states.block, step))
        for path, values in at.items():
            pruned[path] = PrunedWeight(values, pruned[path].kept)
            check_finite(pruned[path], path, type(self).__name__)
        return pruned

    def _step(self, block: FloatBlock, at: Matrices, drawn: list[int], key: int) -> Matrices:
        """The weights after a step, or as they were if the step is no gain."""
        count, before = self.directions, 0.0
        normal, right = torch.zeros(count, count).double(), torch.zeros(count).double()
        for example in examples(block.region, drawn):
            here = output(block, at, example)
            rest = (example.target.float() - here).flatten()
            before += float(rest.double().square().sum())
            slopes = []
            for number in range(count):
                along = moved(at, self._direction(at, key, number), self.eps)
                slopes.append((output(block, along, example) - here).flatten() / self.eps)
            each = torch.stack(slopes).cpu().double()
            normal += each @ each.t()
            right += each @ rest.cpu().double()
        mean = normal.diagonal().mean()
        if not mean > 0:
            return at
        lengths = torch.linalg.solve(normal + _RIDGE * mean * torch.eye(count).double(), right)
        after = at
        for number, length in enumerate(lengths.tolist()):
            after = moved(after, self._direction(at, key, number), length)
        error = 0.0
        for example in examples(block.region, drawn):
            rest = example.target.float() - output(block, after, example)
            error += float(rest.double().square().sum())
        return after if error < before else at

    def _direction(self, at: Matrices, key: int, number: int) -> Matrices:
        """A direction: the same for the same key and number, and 0 where weights are 0."""
        draw = torch.Generator().manual_seed(fold(key, number) >> 1)
        found = {}
        for path, values in at.items():
            if self.moves == "scales":
                z = torch.randn(len(values), 1, generator=draw)
                found[path] = values * z.to(values.device)
            else:
                z = torch.randn(values.shape, generator=draw).to(values.device)
                left = values != 0
                unit = values.square().sum().div(left.sum().clamp(min=1)).sqrt()
                found[path] = unit * left * z
        return found


def moved(at: Matrices, direction: Matrices, length: float) -> Matrices:
    """Weights that are moved along a direction."""
    return {path: values + length * direction[path] for path, values in at.items()}


def output(block: FloatBlock, at: Matrices, example: Example) -> Tensor:
    """The output of a block with other weights for a window, ``[1, length, columns]`` float32."""
    for layer in block.region.layers:
        block.set(layer, at[layer.path])
    return block.run(example.hidden, example.rest)
