"""GraSP: how the size of the gradient depends on each weight, by two further sweeps.

The score takes ``H g``, the product of the Hessian with the gradient, which is the derivative of
the gradient along itself. It is computed block by block as the gradient is: forward, the change of
each block's output (a tangent) is handed on; back, the change of the gradient (a curve).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from zolit.calibration.curvature import BlockCurvature
from zolit.calibration.ending import Ending
from zolit.calibration.gradients import BlockGradients
from zolit.calibration.kept import Kept
from zolit.calibration.scored import Scored
from zolit.calibration.sweeps import Sweeps


class HessianSweeps(Sweeps):
    """Scores ``w * (H g)``, with g and H those of the mean loss over windows, by four sweeps.

    That is minus the score of GraSP (Wang et al. 2020, "Picking winning tickets before training by
    preserving gradient flow", equation 8), which keeps the weights whose score is lowest.

    Arguments are those of `Sweeps`. On the disk, inputs of all blocks, gradients and tangents of
    these, and the gradient of all scored weights are kept until the last sweep has passed them.
    """

    def run(self) -> None:
        """Run to the gradients, forward with tangents, and back with curves."""
        blocks = len(self.chain)
        total = 4 * blocks
        self._to_gradients(total)
        left = self.work.backward_left("curves")
        if left is None:
            self._forward_with_tangents(total)
            left = blocks
        for block in reversed(range(left)):
            self.report(total - block - 1, total)
            self._back_with_curves(block)
        self.report(total, total)

    def _tangents(self, block: int) -> Kept:
        return self.work.tangents(block, self.columns)

    def _curves(self, block: int) -> Kept:
        return self.work.curves(block, self.columns)

    def _room(self, left: int) -> int:
        blocks, wide = len(self.chain) + 1, self._gradients(0).size()
        sizes = [rows * columns for each in self.scored.values() for rows, columns in shapes(each)]
        return left * self._inputs(0).size() + (2 * blocks + 2) * wide + 4 * sum(sizes)

    def _take(self, block: int, weights: Sequence[Scored], gradients: BlockGradients) -> None:
        windows = len(self.chain.windows)
        means = {one: gradients.gradient(one.name) / windows for one in weights}
        for one, mean in means.items():
            self._check_scores(one.path, mean)
        self.work.save_direction(block, {one.name: mean for one, mean in means.items()})

    def _release(self, block: int) -> None:
        """Nothing: the sweeps with tangents and curves need it all."""

    def _curvature(self, block: int) -> BlockCurvature:
        direction = load_file(self.work.direction(block), device=str(self.device))
        return BlockCurvature(self.chain.blocks[block][1], direction)

    def _forward_with_tangents(self, total: int) -> None:
        last = len(self.chain)
        done = self.work.forward_done("tangents")
        if done == 0:  # embeddings stay
            with self._tangents(0).writing() as write:
                for hidden in self._read(self._inputs(0)):
                    write(torch.zeros_like(hidden, dtype=torch.float32))
        for block in range(max(done - 1, 0), last):
            self.report(2 * last + block, total)
            curvature = self._curvature(block)
            with self._tangents(block + 1).writing() as write:
                for window, (hidden, tangent) in enumerate(self._both(block)):
                    write(curvature.tangent(hidden, tangent, self.chain.rest(block, window)))
        ending = Ending(self.chain)
        with self._curves(last).writing() as write:
            for window, (hidden, tangent) in enumerate(self._both(last)):
                write(ending.curve(hidden, tangent, window))

    def _both(self, block: int) -> Any:
        """Inputs of a block and their tangents, window by window."""
        inputs, tangents = self._inputs(block), self._tangents(block)
        return zip(self._read(inputs), self._read(tangents), strict=True)

    def _back_with_curves(self, block: int) -> None:
        curvature = self._curvature(block)
        slopes, curves = self._gradients(block + 1), self._curves(block + 1)
        # As in `_back`: the file that marks the block as done comes last.
        with self._curves(block).writing() as write:
            each = zip(self._both(block), self._read(slopes), self._read(curves), strict=True)
            for window, ((hidden, tangent), slope, curve) in enumerate(each):
                rest = self.chain.rest(block, window)
                write(curvature.back(hidden, tangent, rest, slope, curve))
            weights = self.scored.get(self.chain.blocks[block][0], ())
            windows = len(self.chain.windows)
            found: Mapping[Scored, Tensor] = {
                one: curvature.value(one.name) * curvature.product(one.name) / windows
                for one in weights
            }
            self._save_scores(block, weights, found)
        for kept in (self._inputs, self._tangents, self._gradients, self._curves):
            kept(block + 1).remove()


def shapes(weights: Sequence[Scored]) -> list[tuple[int, int]]:
    """Rows and columns of some weights."""
    return [one.shape for one in weights]
