"""Weights whose codes are indices of a table: their scales move, their codes do not."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference


class IndexWeight(StoredWeight):
    """``scale * (what a table holds at each index)``, with one scale for each row.

    Neighbouring indices need not name neighbouring values, so a code cannot move by a little: reads
    along a direction on the codes are refused, and so are updates of them. The scale of a row
    multiplies all that the row looks up, and can move.

    Attributes:
        scale: ``[rows, 1]`` float32.
    """

    codes_move: ClassVar[bool] = False
    scale: Tensor

    @abstractmethod
    def look_up(self, rows: Rows, out: Tensor, preference: Preference) -> None:
        """Decode some rows.

        Args:
            rows: which rows.
            out: ``[R, padded_columns]`` float, written.
            preference: kernel choice.
        """

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def scales(self) -> dict[str, Tensor]:
        return {"scale": self.scale}

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        if perturbation is not None:
            raise self._refusal()
        self.look_up(rows, outs[0], preference)
        for out in outs[1:]:
            out.copy_(outs[0])

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        raise self._refusal()

    def _refusal(self) -> TypeError:
        return TypeError(
            f"the codes of a {type(self).__name__} are indices of a table, which do not move; move "
            "its scales (ScalePerturber)"
        )
