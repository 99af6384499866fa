"""Prune, move towards the dense block's output, and prune again: the second half of Wanda++."""

import torch

from zolit.calibration.float_block import FloatBlock, examples, squared_distance
from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.noise import fold
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.pattern import Pattern
from zolit.strategies.reconstruction.base import Reconstruction
from zolit.strategies.reconstruction.masters import prune_masters, refreshed


class RegionalOptimization(Reconstruction):
    """Rounds of pruning a block and of steps on ``||f(x) - f_pruned(x)||^2``, and a last pruning
    (Wanda++, arXiv 2503.04992, Algorithm 1).

    In each round the layers are pruned by their weights as they are by then, and RMSprop makes a
    step for each of some windows, drawn anew. The steps move all weights of the layers, those that
    were pruned too: pruning at the end makes the zeros final. Gradients of the pruner's score are
    those of the dense block; norms of inputs are those of the windows of the round, and at the end
    of all windows. Weights are float32 until the block is done: steps of the paper's rate are
    shorter than the distance of two bfloat16 numbers.

    Args:
        rounds: K of the paper.
        inputs: windows of a round, M of the paper; all of them if there are fewer.
        lr: of RMSprop.
        fresh_optimizer: begin each round with a new RMSprop, whose first step is the longest,
            instead of one for all rounds. The paper does not say.
        seed: draws the windows of the rounds.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> RegionalOptimization(rounds=2).inputs
        32
    """

    def __init__(
        self,
        rounds: int = 5,
        inputs: int = 32,
        lr: float = 3e-7,
        fresh_optimizer: bool = False,
        seed: int = 0,
    ) -> None:
        for name, value in (("rounds", rounds), ("inputs", inputs)):
            if value < 1:
                raise UserError(f"{name}: got {value}, expected at least 1; try 5")
        if not 0 < lr < float("inf"):
            raise UserError(f"lr: got {lr}, expected a positive number; try 3e-7")
        self.rounds = rounds
        self.inputs = inputs
        self.lr = lr
        self.fresh_optimizer = fresh_optimizer
        self.seed = seed

    def rebuild(self, region: Region, pruner: Pruner, pattern: Pattern) -> dict[str, PrunedWeight]:
        dense = region.statistics(pruner.needs_moments, pruner.needs_gradients)
        block = FloatBlock(region)
        masters = list(block.masters.values())
        optimizer = torch.optim.RMSprop(masters, lr=self.lr)
        draw = torch.Generator().manual_seed(fold(self.seed, region.states.block) >> 1)
        count = len(region.states.chain.windows)
        for number in range(self.rounds):
            drawn = sorted(torch.randperm(count, generator=draw)[: self.inputs].tolist())
            seen = refreshed(block, examples(region, drawn), dense) if number else dense
            prune_masters(block, seen, pruner, pattern)
            if self.fresh_optimizer:
                optimizer = torch.optim.RMSprop(masters, lr=self.lr)
            for one in examples(region, drawn):
                optimizer.zero_grad()
                squared_distance(block, one).backward()
                optimizer.step()
        optimizer.zero_grad()
        every = examples(region, range(count))
        return prune_masters(block, refreshed(block, every, dense), pruner, pattern)
