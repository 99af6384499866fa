"""Move weights that lie far outside of the usual range of their matrix."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zolit.arguments import positive
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.strategies.mask.base import Candidate, ElementMask
from zolit.strategies.mask.selection import Parts, quantiles
from zolit.supports import Bits, Support

_CHUNK_ELEMENTS = 1 << 20
"""Elements that are decoded at once, so that their copies stay small."""

_USUAL = 0.0045
"""Fraction of a language model's weights that are outliers, by SqueezeLLM; only memory estimates
use it."""


class Outliers(ElementMask):
    """Moves the outliers of each matrix, by the range of SqueezeLLM (arXiv 2306.07629).

    Let q1 and q3 be the quartiles of a matrix and ``w = q3 - q1``. A weight is an outlier if its
    size is at least ``max(|q1 - reach * w|, |q3 + reach * w|)``. The bound is the same for both
    signs. How many weights move depends on their distribution.

    Args:
        reach: distance from a quartile to the bound, as a multiple of the distance w between the
            quartiles. SqueezeLLM takes 1.5 to 2, by which about 0.45 % of the weights of a language
            model are outliers.

    Raises:
        UserError: if ``reach`` is not a positive number.

    Example:
        >>> from zolit.formats.dense import DenseWeight
        >>> weight = DenseWeight(torch.tensor([[1.0, -1.0, 2.0, -2.0, 30.0]]))
        >>> Outliers(1.8).choose("w", weight, 0, 1).chosen()
        tensor([[False, False, False, False,  True]])
    """

    def __init__(self, reach: float = 1.8) -> None:
        positive("reach", reach, "try 1.8")
        self.reach = reach

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        if weight.device.type == "meta":
            return Bits.on_meta((weight.rows, weight.columns), _USUAL)

        def parts() -> Iterator[Tensor]:
            for rows in chunks(weight.rows, max(1, _CHUNK_ELEMENTS // weight.columns)):
                yield weight.in_stored_order(weight.decoded(rows))

        bound = outlier_bound(parts, weight.rows * weight.columns, self.reach)
        if bound is None:
            raise UserError(
                f"mask Outliers: half of the weights of {path} are equal, so that its quartiles "
                "give no width to measure outliers by; use Magnitude, or take it out of `tune`"
            )
        packed = torch.cat([Bits.of(part.abs() >= bound).packed for part in parts()])
        support = Bits(packed, weight.columns)
        if support.count == 0:
            raise UserError(
                f"reach: {self.reach} makes {bound:.3g} the least size of an outlier of {path}, "
                "which none of its weights has; take less, or take the weight out of `tune`"
            )
        return support

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        for one in candidates:
            if one.shape not in (None, (one.weight.rows, one.weight.columns)):
                raise UserError(
                    f"mask Outliers names single weights, but of {one.path} scales move; use "
                    "Magnitude, or a perturber that moves weights"
                )
        return super().choose_all(candidates)


def outlier_bound(parts: Parts, total: int, reach: float) -> float | None:
    """The size from which on numbers are outliers; None where the quartiles are equal.

    Args:
        parts: returns all numbers in parts, float32.
        total: how many there are.
        reach: see `Outliers`.
    """
    low, high = quantiles(parts, total, (0.25, 0.75))
    width = high - low
    if width == 0:
        return None
    return max(abs(low - reach * width), abs(high + reach * width))
