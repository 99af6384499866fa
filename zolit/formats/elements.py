"""Weights that store each element on its own: each format reads and moves them by two kernels."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.layout import to_blocks
from zolit.formats.rows import Rows
from zolit.kernels.arguments import Perturbation, Stored, Update, on_rows
from zolit.kernels.dispatch import Kernel, Preference


class ElementWeight(StoredWeight):
    """A weight that stores each element as a float or as a code, so that each moves by itself.

    A format defines the two kernels, and how its tensors and its decoded rows are viewed in words
    of 32 columns.

    Attributes:
        read_kernel: called with ``(stored, outs, noise)``; writes decoded rows plus and minus a
            direction (`zolit.kernels.read`).
        move_kernel: called with ``(stored, update)``; moves the stored rows in place.
    """

    read_kernel: ClassVar[Kernel]
    move_kernel: ClassVar[Kernel]

    @abstractmethod
    def stored(self, rows: Rows) -> Stored:
        """Some rows as the kernels take them: views, or copies where words have to be padded."""

    def value_blocks(self, buffer: Tensor) -> Tensor:
        """A view of ``[R, padded_columns]`` decoded values, in the shape that the kernels take."""
        return to_blocks(buffer)

    def write_back(self, rows: slice, stored: Stored) -> None:
        """Copy what a kernel moved into the weight, where `stored` gave it a copy."""

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        blocks = [self.value_blocks(out) for out in outs]
        noise = None if perturbation is None else on_rows(perturbation, rows)
        self.read_kernel(self.stored(rows), blocks, noise, preference=preference)

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        stored = self.stored(rows)
        step, unit, rounding, residual, decay, query = update
        in_words = Update(
            None if step is None else self.value_blocks(step),
            _by_row(unit, stored.codes if stored.scale is None else stored.scale),
            rounding,
            None if residual is None else self.value_blocks(residual),
            decay,
            None if query is None else on_rows(query, rows),
        )
        self.move_kernel(stored, in_words, preference=preference)
        self.write_back(rows, stored)


def _by_row(unit: Tensor, like: Tensor) -> Tensor:
    """The unit of an update in a shape that broadcasts with ``like``.

    Args:
        unit: ``[2]``, which stays as it is, or ``[2, R]``, one for each row.
        like: ``[R, ...]``.
    """
    return unit if unit.dim() == 1 else unit.view(2, -1, *[1] * (like.dim() - 1))
