"""Move the weights that are small at the time (Sparse-MeZO)."""

from collections.abc import Iterator

from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.strategies.mask.base import ElementMask
from zolit.strategies.mask.selection import Place, places
from zolit.strategies.perturber.base import Perturber
from zolit.supports import Bits, Support
from zolit.tensors.below import Below

_CHUNK_ELEMENTS = 1 << 20
"""Sizes that are made at once."""


class SmallWeights(ElementMask):
    """Moves the weights below a bound, compared again at each step (Sparse-MeZO, arXiv 2402.15751).

    The bound of a matrix is set once, before the first step: the size below which ``fraction`` of
    its weights lie. A weight that grows beyond it rests from then on. `Magnitude` with ``which:
    smallest`` is the paper's constant mask: it keeps the choice of the start.

    Args:
        fraction: fraction of a matrix that moves when the run starts, in (0, 1]. The paper moves
            0.2 to 0.5, that is, its sparsity is 0.5 to 0.8. Weights as large as the last of them
            move too, which in formats of few codes are many.

    Raises:
        UserError: if ``fraction`` is out of range.

    Example:
        >>> import torch
        >>> from zolit.formats.dense import DenseWeight
        >>> weight = DenseWeight(torch.tensor([[3.0, -5.0, 1.0, 2.0]]))
        >>> SmallWeights(0.5).choose("w", weight, 0, 1).chosen()
        tensor([[False, False,  True,  True]])
    """

    def __init__(self, fraction: float = 0.2) -> None:
        if not 0 < fraction <= 1:
            raise UserError(f"fraction must be in (0, 1], got {fraction}; try 0.2")
        self.fraction = fraction

    def check(self, perturber: Perturber) -> None:
        super().check(perturber)
        if perturber.overlays or perturber.moves_scales:
            why = "whose entries are chosen once" if perturber.overlays else "which moves scales"
            raise UserError(
                "mask SmallWeights compares elements that move with a bound, got perturber "
                f"{type(perturber).__name__}, {why}; use Magnitude with it, or CodePerturber or "
                "DensePerturber with SmallWeights"
            )

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        shape = weight.rows, weight.columns
        count = int(self.fraction * weight.rows * weight.columns)
        if count == 0:
            raise UserError(
                f"fraction: {self.fraction} of the {weight.rows * weight.columns} coordinates of "
                f"{path} leaves none; use a larger one, or take the weight out of `tune`"
            )
        if weight.device.type == "meta":
            return Bits.on_meta(shape, self.fraction)
        [last] = places(lambda: _sizes(path, weight), [count - 1])
        self._check_bound(path, weight, last)
        return Below.of_weight(weight, last.score)

    def _check_bound(self, path: str, weight: StoredWeight, last: Place) -> None:
        if last.equal == weight.rows * weight.columns and self.fraction < 1:
            raise UserError(
                f"mask SmallWeights: all weights of {path} are of one size, so that no bound tells "
                "small from large; use RandomMask, or take it out of `tune`"
            )


def _sizes(path: str, weight: StoredWeight) -> Iterator[Tensor]:
    """The sizes of a weight's elements, part by part, float32.

    Raises:
        UserError: if one is NaN.
    """
    for rows in chunks(weight.rows, max(1, _CHUNK_ELEMENTS // weight.columns)):
        size = weight.decoded(rows).abs()
        if size.isnan().any():
            raise UserError(
                f"mask SmallWeights: a weight of {path} is NaN, expected numbers; look for what "
                "made it"
            )
        yield size
