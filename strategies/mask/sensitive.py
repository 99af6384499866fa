"""Move the weights that the loss depends on most."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from zolit.calibration.options import SaliencyOptions
from zolit.calibration.saliency_file import Saliency
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.options import OnResume
from zolit.strategies.mask.scored import Per, ScoredMask
from zolit.strategies.mask.selection import Largest
from zolit.strategies.perturber.base import Perturber
from zolit.supports import Bits, Support

_TOGETHER = 1 << 20
"""Scores that are compared at once."""


class Sensitive(ScoredMask):
    """Moves the weights of highest saliency (SensZOQ, arXiv 2406.02913).

    The scores are read from a file that ``zolit saliency`` made of the same model. One file serves
    any task and any quantizer. A score is the sum of a weight's squared gradients, or the square of
    their sum, as the file says. Without a file the run computes the scores when it starts, and
    keeps them in its folder.

    Args:
        file: path of the file of scores; null to compute them when the run starts.
        fraction: fraction of the coordinates that move, in (0, 1]. Their number is rounded down.
        per: whether this is a fraction of each ``matrix``, as in the released code, of each ``row``
            of each matrix, or of the whole ``model``. Rows need a file of all scores
            (``keep: 1``), and so do directions on scales; the model needs one that keeps every
            score as high as the lowest that is chosen.
        saliency: what is computed where there is no file. By default gradients of 16 training rows
            of the run.

    Attributes:
        computed: whether ``file`` was computed by the run itself.

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

    kept: ClassVar[bool] = True
    # Whatever they are, the choice that comes of them is compared.
    on_resume: ClassVar[Mapping[str, OnResume]] = {
        "file": OnResume.COMPARED,
        "saliency": OnResume.COMPARED,
    }

    def __init__(
        self,
        file: str | None = None,
        fraction: float = 1e-3,
        per: Per = "matrix",
        saliency: SaliencyOptions | None = None,
    ) -> None:
        super().__init__(fraction, per)
        self.file = file
        self.saliency = saliency
        self.computed = False
        self._last: tuple[str, Tensor] | None = None
        self._expected: Mapping[str, tuple[int, int]] = {}
        self._chosen: dict[str, Tensor] = {}

    @property
    def title(self) -> str:
        return f"Sensitive (fraction {self.fraction} per {self.per})"

    def files(self) -> dict[str, str]:
        return {} if self.file is None else {"file": self.file}

    def read_files(self) -> None:
        if self.file is not None:
            self._open()

    def wanted(self, perturber: Perturber) -> SaliencyOptions:
        """What a run without a file computes, with as many scores as this mask looks at.

        Raises:
            UserError: if ``saliency.keep`` says fewer.
        """
        every = self.per != "matrix" or perturber.moves_scales
        least = 1.0 if every else self.fraction
        options = self.saliency or SaliencyOptions()
        if options.keep is not None and options.keep < least:
            raise UserError(
                f"saliency.keep: got {options.keep}, but mask Sensitive looks at a fraction of "
                f"{least:g} of the scores here; raise it, or leave it out"
            )
        return replace(options, keep=least) if options.keep is None else options

    @property
    def settled(self) -> Mapping[str, int | float | str]:
        return {"file": self.file} if self.computed and self.file is not None else {}

    def take(self, file: Path) -> None:
        """Choose by the scores that a run has computed."""
        self.file, self.computed = str(file.absolute()), True

    def look_at(self, model: nn.Module) -> None:
        if self.file is None and any(parameter.is_meta for parameter in model.parameters()):
            return  # `zolit estimate` counts memory
        self._open().check(model)

    def expect(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        if shapes != self._expected:
            self._expected, self._chosen = shapes, {}

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        floats = weight.floats()
        if floats is not None and not (self.file is None and floats.is_meta):
            self._open().check_matrix(path, floats)
        if self.per == "model" and path in self._expected:
            return self._in_model(path, weight, self._expected)
        return super().choose(path, weight, block, blocks)

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        if self.file is None and all(one.weight.device.type == "meta" for one in candidates):
            return super().choose_all(candidates)  # which needs no scores there
        saliency = self._open()
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
            self._last = path, self._open().all_scores(path)
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
        on_meta = weight.device.type == "meta"
        if not self._chosen and not (self.file is None and on_meta):
            self._chosen = self._places(shapes)
        if on_meta:
            return Bits.on_meta((weight.rows, weight.columns), self.fraction)
        return _bits(self._chosen[path], weight)

    def _places(self, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
        """Positions of the highest scores of some matrices together, by the matrix's name.

        The file alone decides, so that no weight need be there.
        """
        saliency = self._open()
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

    def _open(self) -> Saliency:
        if self.file is None:
            raise UserError(
                "mask Sensitive: file: got none; zolit fit, or zolit.fit of a module that is not "
                "loaded yet, computes one at the start of a run; otherwise make it: zolit saliency "
                "--config RECIPE --to FILE"
            )
        return Saliency.open(self.file)


def _of_elements(one: Candidate) -> bool:
    """Whether the coordinates that move are the elements of the weight."""
    return one.shape in (None, (one.weight.rows, one.weight.columns))


def _bits(positions: Tensor, weight: StoredWeight) -> Bits:
    """A support of flat positions in the model's matrix."""
    chosen = torch.zeros(weight.rows * weight.columns, dtype=torch.bool)
    chosen[positions] = True
    chosen = chosen.view(weight.rows, weight.columns).to(weight.device)
    return Bits.of(weight.in_stored_order(chosen))
