"""Move the weights of largest or of smallest magnitude."""

from typing import Literal

from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.strategies.mask.scored import Per, ScoredMask


class Magnitude(ScoredMask):
    """Moves the weights of largest or of smallest magnitude when the run starts.

    Sparse-MeZO (arXiv 2402.15751) moves the smallest, and chooses them again at each step. SensZOQ
    (arXiv 2406.02913) compares its own choice with both. See docs/methods/masks.md.

    Args:
        fraction: fraction of the coordinates that move, in (0, 1]. Their number is rounded down.
        which: ``largest`` or ``smallest``.
        per: whether this is a fraction of each ``matrix``, of each ``row`` of each matrix, or of
            the whole ``model``.

    Raises:
        UserError: if ``fraction`` is out of range.

    Example:
        >>> import torch
        >>> from zolit.formats.dense import DenseWeight
        >>> weight = DenseWeight(torch.tensor([[3.0, -5.0, 1.0, 2.0]]))
        >>> Magnitude(0.5).choose("w", weight, 0, 1).chosen()
        tensor([[ True,  True, False, False]])
    """

    def __init__(
        self,
        fraction: float,
        which: Literal["largest", "smallest"] = "largest",
        per: Per = "matrix",
    ) -> None:
        super().__init__(fraction, per)
        self.which = which

    def scores(self, path: str, weight: StoredWeight, rows: slice) -> Tensor:
        size = weight.decoded(rows).abs()
        return size if self.which == "largest" else -size
