"""Move the weights that the loss depends on most."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zolit.calibration.saliency_file import Saliency
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.strategies.mask.scored import Per, ScoredMask
from zolit.supports import Bits, Support


class Sensitive(ScoredMask):
    """Moves the weights of highest saliency (SensZOQ, arXiv 2406.02913).

    The scores are read from a file that ``zolit saliency`` made of the same model. One file serves
    any task and any quantizer. A score is the sum of a weight's squared gradients, or the square of
    their sum, as the file says.

    Args:
        file: path of the file of scores.
        fraction: fraction of the coordinates that move, in (0, 1]. Their number is rounded down.
        per: whether this is a fraction of each ``matrix``, as in the released code, of each ``row``
            of each matrix, or of the whole ``model``. The last two need a file of all scores
            (``keep: 1``), and so do directions on scales.

    Raises:
        UserError: if ``fraction`` is out of range.

    Example:
        ::

            mask:
              class_path: Sensitive
              init_args:
                file: c4.saliency
                fraction: 0.001
    """

    def __init__(self, file: str, fraction: float = 1e-3, per: Per = "matrix") -> None:
        super().__init__(fraction, per)
        self.file = file
        self._last: tuple[str, Tensor] | None = None

    def look_at(self, model: nn.Module) -> None:
        Saliency.open(self.file).check(model)

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        floats = weight.floats()
        if floats is not None:
            Saliency.open(self.file).check_matrix(path, floats)
        return super().choose(path, weight, block, blocks)

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        saliency = Saliency.open(self.file)
        for one in candidates:
            saliency.check_shape(one.path, (one.weight.rows, one.weight.columns))
        if self.per == "matrix" and all(map(_of_elements, candidates)):
            return [self._highest(one, saliency) for one in candidates]
        for one in candidates:
            on = f"with per: {self.per}" if _of_elements(one) else "on scales"
            saliency.check_keeps(one.path, None, f"mask Sensitive {on}")
        found = super().choose_all(candidates)
        self._last = None
        return found

    def scores(self, path: str, weight: StoredWeight, rows: slice) -> Tensor:
        if self._last is None or self._last[0] != path:
            self._last = path, Saliency.open(self.file).all_scores(path)
        return self._last[1][rows].float().to(weight.device)

    def _highest(self, one: Candidate, saliency: Saliency) -> Bits:
        """The highest scores of a matrix, which the file lists in order."""
        weight = one.weight
        total = weight.rows * weight.columns
        count = self.count_of(total, one.path)
        saliency.check_keeps(one.path, count, f"mask Sensitive with fraction: {self.fraction}")
        if weight.device.type == "meta":
            return Bits.on_meta((weight.rows, weight.columns), self.fraction)
        chosen = torch.zeros(total, dtype=torch.bool)
        chosen[saliency.top(one.path, count)] = True
        chosen = chosen.view(weight.rows, weight.columns).to(weight.device)
        return Bits.of(weight.in_stored_order(chosen))


def _of_elements(one: Candidate) -> bool:
    """Whether the coordinates that move are the elements of the weight."""
    return one.shape in (None, (one.weight.rows, one.weight.columns))
