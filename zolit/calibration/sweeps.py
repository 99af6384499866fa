"""Runs a model's blocks one after another, then backward, scoring the weights of each."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from zolit.calibration.chain import Chain
from zolit.calibration.ending import Ending, check_ending
from zolit.calibration.gradients import BlockGradients, Method
from zolit.calibration.kept import Kept
from zolit.calibration.saliency_file import kept_tensors
from zolit.calibration.scored import Scored
from zolit.calibration.work import Work
from zolit.errors import UserError
from zolit.models.matrices import as_matrix

log = logging.getLogger(__name__)

Report = Callable[[int, int], None]
"""``report(done, total)``: number of passes through a block that are done, and of all passes."""

_APART = 0.25
"""Largest relative difference between a block's output in the sweep back and its output before."""


class Sweeps:
    """The sweep forward and the sweep back. Each continues where the files of `Work` end.

    Args:
        chain: the blocks of the model.
        scored: the weights to score in each block, by the path of the block.
        method: how they are scored.
        keep: fraction of the entries of a matrix whose scores are kept.
        work: keeps hidden states, gradients and scores on the disk.
        report: called before each pass through a block.
        dtype: that gradients are computed in: float32, or that of the model's hidden states.
    """

    def __init__(
        self,
        chain: Chain,
        scored: Mapping[str, Sequence[Scored]],
        method: Method,
        keep: float,
        work: Work,
        report: Report,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.chain = chain
        self.scored = scored
        self.method = method
        self.keep = keep
        self.work = work
        self.report = report
        self.computed = dtype
        first = chain.enter(0)
        self.columns, self.dtype, self.device = first.shape[-1], first.dtype, first.device

    def run(self) -> None:
        """Run forward to the loss, and back."""
        total = 2 * len(self.chain)
        self._to_gradients(total)
        self.report(total, total)

    def _to_gradients(self, total: int) -> None:
        """Both sweeps, of all that are reported."""
        blocks = len(self.chain)
        left = self.work.backward_left()
        if left is None:
            self._forward(total)
            left = blocks
        for block in reversed(range(left)):
            self.report(2 * blocks - block - 1, total)
            self._back(block)

    def _inputs(self, block: int) -> Kept:
        return self.work.inputs(block, self.columns, self.dtype)

    def _gradients(self, block: int) -> Kept:
        return self.work.gradients(block, self.columns)

    def _forward(self, total: int) -> None:
        last = len(self.chain)
        done = self.work.forward_done()
        self.work.check_room(self._room(last + 1 - done))
        windows = range(len(self.chain.windows))
        if done == 0:
            with self._inputs(0).writing() as write:
                for window in windows:
                    hidden = self.chain.enter(window)
                    _check_states(hidden, f"what comes before {self.chain.blocks[0][0]}", window)
                    write(hidden)
        for block in range(max(done - 1, 0), last):
            self.report(block, total)
            with self._inputs(block + 1).writing() as write:
                for window, hidden in enumerate(self._read(self._inputs(block))):
                    states = self.chain.step(block, window, hidden)
                    _check_states(states, self.chain.blocks[block][0], window)
                    write(states)
        check_ending(self.chain, next(self._read(self._inputs(last))), 0)
        ending = Ending(self.chain, self.computed)
        with self._gradients(last).writing() as write:
            for window, hidden in enumerate(self._read(self._inputs(last))):
                write(ending.gradient(hidden, window))

    def _room(self, left: int) -> int:
        """Bytes that will be written, where the inputs of so many blocks are still to come."""
        return left * self._inputs(0).size() + 2 * self._gradients(0).size()

    def _back(self, block: int) -> None:
        path, module = self.chain.blocks[block]
        weights = self.scored.get(path, ())
        names = [one.name for one in weights]
        gradients = BlockGradients(module, names, self.method, self.computed)
        # Scores are saved within this context: its file, which marks the block as done, comes last.
        with self._gradients(block).writing() as write:
            states = self._read(self._inputs(block))
            slopes = self._read(self._gradients(block + 1))
            for window, (hidden, slope) in enumerate(zip(states, slopes, strict=True)):
                rest = self.chain.rest(block, window)
                out, found = gradients.back(hidden, rest, slope)
                if window == 0:
                    self._check_output(block, out)
                write(found)
            self._take(block, weights, gradients)
        self._release(block)

    def _take(self, block: int, weights: Sequence[Scored], gradients: BlockGradients) -> None:
        """Keep what a block's gradients say."""
        self._save_scores(block, weights, {one: gradients.scores(one.name) for one in weights})

    def _save_scores(
        self, block: int, weights: Sequence[Scored], found: Mapping[Scored, Tensor]
    ) -> None:
        tensors: dict[str, Tensor] = {}
        for one in weights:
            scores = as_matrix(found[one], True, one.transposed)
            self._check_scores(one.path, scores)
            tensors |= kept_tensors(one.path, scores, self.keep)
        self.work.save_scores(block, tensors)

    def _release(self, block: int) -> None:
        """Delete what no block before this one needs."""
        self._inputs(block + 1).remove()
        self._gradients(block + 1).remove()

    def _read(self, kept: Kept) -> Iterator[Tensor]:
        return (one.to(self.device) for one in kept.read())

    def _check_output(self, block: int, out: Tensor) -> None:
        """Refuse a block that gives something else for gradients than when the model runs it."""
        wanted = next(self._read(self._inputs(block + 1))).float()
        apart = (out - wanted).norm() / wanted.norm()
        if not apart <= _APART:
            dtype = str(self.computed).removeprefix("torch.")
            raise UserError(
                f"model.source: {self.chain.blocks[block][0]} gives other hidden states in {dtype} "
                f"than in the model (a relative difference of {apart:.2g}), so that its gradients "
                "would not be those of the model; give the model's float weights"
            )

    def _check_scores(self, path: str, scores: Tensor) -> None:
        if not scores.isfinite().all():
            raise UserError(
                f"saliency: the gradient of {path} is NaN or infinite; give a model whose weights "
                "are finite, or model.dtype: float32"
            )
        if not scores.any():
            log.warning(
                "%s has no gradient: all of its scores are 0, so that a mask would choose its "
                "first entries",
                path,
            )


def _check_states(hidden: Tensor, path: str, window: int) -> None:
    if not hidden.isfinite().all():
        raise UserError(
            f"model.source: {path} gives hidden states that are NaN or infinite for window "
            f"{window} of the text; give a model whose weights are finite, or model.dtype: float32"
        )
