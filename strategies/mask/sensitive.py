"""Move the weights that the loss depends on most."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from zolit.calibration.saliency_file import Saliency
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.strategies.mask.scored import Per, ScoredMask
from zolit.strategies.mask.selection import Largest
from zolit.supports import Bits, Support

_TOGETHER = 1 << 20
"""Scores that are compared at once."""


class Sensitive(ScoredMask):
    """Moves the weights of highest saliency (SensZOQ, arXiv 2406.02913).

    The scores are read from a file that ``zolit saliency`` made of the same model. One file serves
    any task and any quantizer. A score is the sum of a weight's squared gradients, or the square of
    their sum, as the file says.

    Args:
        file: path of the file of scores.
        fraction: fraction of the coordinates that move, in (0, 1]. Their number is rounded down.
        per: whether this is a fraction of each ``matrix``, as in the released code, of each ``row``
            of each matrix, or of the whole ``model``. Rows need a file of all scores
            (``keep: 1``), and so do directions on scales; the model needs one that keeps every
            score as high as the lowest that is chosen.

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
        self._expected: Mapping[str, tuple[int, int]] = {}
        self._chosen: dict[str, Tensor] = {}

    def look_at(self, model: nn.Module) -> None:
        Saliency.open(self.file).check(model)

    def expect(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        if shapes != self._expected:
            self._expected, self._chosen = shapes, {}

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        floats = weight.floats()
        if floats is not None:
            Saliency.open(self.file).check_matrix(path, floats)
        if self.per == "model" and path in self._expected:
            return self._in_model(path, weight, self._expected)
        return super().choose(path, weight, block, blocks)

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        saliency = Saliency.open(self.file)
        shapes = {one.path: (one.weight.rows, one.weight.columns) for one in candidates}
        for path, shape in shapes.items():
            saliency.check_shape(path, shape)
        elements = all(map(_of_elements, candidates))
        if elements and self.per == "matrix":
            return [self._highest(one, saliency) for one in candidates]
        # Under `SparsePerturber` these are what a checkpoint left as floats, or none.
        beside_codes = bool(self._expected) and shapes.keys() <= self._expected.keys()
        if elements and self.per == "model" and (beside_codes or saliency.facts.keep < 1):
            if not beside_codes:
                self._chosen = {}
            together = self._expected if beside_codes else shapes
            return [self._in_model(one.path, one.weight, together) for one in candidates]
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
        return _bits(saliency.top(one.path, count), weight)

    def _in_model(
        self, path: str, weight: StoredWeight, shapes: Mapping[str, tuple[int, int]]
    ) -> Bits:
        """The coordinates of a matrix that are among the highest of several matrices."""
        if not self._chosen:
            self._chosen = self._places(shapes)
        if weight.device.type == "meta":
            return Bits.on_meta((weight.rows, weight.columns), self.fraction)
        return _bits(self._chosen[path], weight)

    def _places(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
        """Positions of the highest scores of some matrices together, by the matrix's name.

        The file alone decides, so that no weight need be there.
        """
        saliency = Saliency.open(self.file)
        for path, shape in shapes.items():
            saliency.check_shape(path, shape)
        count = self.count_of(sum(rows * columns for rows, columns in shapes.values()), "the model")
        kept = sum(saliency.kept(path) for path in shapes)
        more = f"make a file with a larger --saliency.keep than {saliency.facts.keep:g}"
        if count > kept:
            raise UserError(
                f"mask Sensitive: {self.file!r} keeps the {kept} highest scores of the weights "
                f"that tune names, but {count} are to move; {more}"
            )

        def parts() -> Iterator[Tensor]:
            for path in shapes:
                yield from saliency.kept_scores(path)[1].split(_TOGETHER)

        largest = Largest(parts, kept, count)
        self.tell_ties(largest.ties, "the model")
        found = {}
        for path, (rows, columns) in shapes.items():
            positions, scores = saliency.kept_scores(path)
            chosen = torch.cat([largest.of(one) for one in scores.split(_TOGETHER)])
            if chosen.all() and len(scores) < rows * columns:
                raise UserError(
                    f"mask Sensitive: {self.file!r} keeps the {len(scores)} highest scores of "
                    f"{path}, and all are among the {count} highest of the model, so that others "
                    f"may be; {more}"
                )
            places = chosen.nonzero().flatten()
            found[path] = places if positions is None else positions[places]
        return found


def _of_elements(one: Candidate) -> bool:
    """Whether the coordinates that move are the elements of the weight."""
    return one.shape in (None, (one.weight.rows, one.weight.columns))


def _bits(positions: Tensor, weight: StoredWeight) -> Bits:
    """A support of flat positions in the model's matrix."""
    chosen = torch.zeros(weight.rows * weight.columns, dtype=torch.bool)
    chosen[positions] = True
    chosen = chosen.view(weight.rows, weight.columns).to(weight.device)
    return Bits.of(weight.in_stored_order(chosen))
