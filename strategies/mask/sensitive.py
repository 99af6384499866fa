"""The weights that the loss depends on most move."""

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

    Scores are those of a file that ``zolit saliency`` made of the same model, once, for any task
    and any quantizer: sums of squared gradients, or squares of summed ones, as the file says.

    Args:
        file: of saliency.
        fraction: of coordinates that move, in (0, 1], rounded down to whole coordinates.
        per: what it is the fraction of: each ``matrix``, as in the released code; each ``row`` of
            each matrix, or the whole ``model``, which take a file of all scores (``keep: 1``), as
            directions on scales do.

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
        """The coordinates of a matrix by their places in the file, which has them in order."""
        weight = one.weight
        total = weight.rows * weight.columns
        count = self.count_of(total, one.path)
        saliency.check_keeps(one.path, count, f"mask Sensitive with fraction: {self.fraction}")
        if weight.device.type == "meta":
            words = torch.empty(weight.rows, weight.words, dtype=torch.int32, device="meta")
            return Bits(words, weight.columns)
        chosen = torch.zeros(total, dtype=torch.bool)
        chosen[saliency.top(one.path, count)] = True
        chosen = chosen.view(weight.rows, weight.columns).to(weight.device)
        return Bits.of(weight.in_stored_order(chosen))


def _of_elements(one: Candidate) -> bool:
    return one.shape in (None, (one.weight.rows, one.weight.columns))
