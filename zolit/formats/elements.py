"""Weights whose elements are stored one by one: read and moved by two kernels of their format."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from zolit.formats.base import Rows, StoredWeight, to_blocks
from zolit.kernels.arguments import Perturbation, Stored, Update, on_rows
from zolit.kernels.dispatch import Kernel, Preference


class ElementWeight(StoredWeight):
    """A weight whose elements are stored, and so move, one by one: as floats or as codes.

    A format gives two kernels, and says how its tensors and decoded rows lie in words of 32.

    Attributes:
        read_kernel: ``(stored, outs, noise)``: decoded rows plus and minus a direction
            (`zolit.kernels.read`).
        move_kernel: ``(stored, update)``: moves the stored rows in place.
    """

    read_kernel: ClassVar[Kernel]
    move_kernel: ClassVar[Kernel]

    @abstractmethod
    def stored(self, rows: Rows) -> Stored:
        """Some rows as the kernels take them: views, or copies that `write_back` stores."""

    def value_blocks(self, buffer: Tensor) -> Tensor:
        """``[R, padded_columns]`` decoded values in the kernels' shape, a view."""
        return to_blocks(buffer)

    def write_back(self, rows: slice, stored: Stored) -> None:
        """Store codes that a kernel moved where they were a copy."""

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

    def read_copies(self, rows: Rows, outs: list[Tensor], preference: Preference) -> None:
        self.read(rows, outs, None, preference)  # which writes them all at once

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
    """A unit ``[2]`` as it is; one for each row, ``[2, R]``, so that it spreads over ``like``'s."""
    return unit if unit.dim() == 1 else unit.view(2, -1, *[1] * (like.dim() - 1))
