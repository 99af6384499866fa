"""Codes of a few bits with a scale for each 16 columns: half a word (K-quants of GGUF)."""

from torch import Tensor

from zolit.formats.base import Rows, to_blocks
from zolit.formats.bit_planes import GroupedWeight

HALF_WORD = 16
"""Columns that share a scale."""


class HalfWordWeight(GroupedWeight):
    """`GroupedWeight` whose words of 32 columns have two scales each.

    Attributes:
        scale: ``[rows, columns / 16]`` float32.
        zero: ``[rows, columns / 16]`` float32, or None, as in `GroupedWeight`.
    """

    def code_blocks(self, rows: Rows) -> list[Tensor]:
        return [plane[rows].unsqueeze(2).unsqueeze(3) for plane in self.planes]

    def value_blocks(self, buffer: Tensor) -> Tensor:
        return to_blocks(buffer, self.words).unflatten(-1, (2, HALF_WORD))

    def decoding(self, rows: Rows) -> list[Tensor | None]:
        """``[R, words, 1, 2, 1]`` each."""
        parts = super().decoding(rows)
        return [None if one is None else one.view(-1, self.words, 1, 2, 1) for one in parts]
