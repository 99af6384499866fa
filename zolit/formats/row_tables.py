"""Codes of a few bits that look up their value in a table of their row (SqueezeLLM).

The bits of a code lie in planes, as those of `zolit.formats.bit_planes`. A read needs no code: each
plane halves the entries that are left, by a selection between neighbours. Selections stay in vector
registers, where a look-up by index loads its values one by one.
"""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.base import Rows, StoredWeight, to_blocks
from zolit.formats.bit_planes import pack_planes, unpack_planes
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference, kernel
from zolit.noise import WORD, check_lanes, lane_indices

_REFUSAL = "the codes of a table have no order, so they do not move"


@kernel
def read_row_tables(planes: list[Tensor], tables: Tensor, out: Tensor) -> None:
    """``out[r, c] = tables[r, code[r, c]]``.

    Args:
        planes: n times ``[R, W]`` int32, bit k of the codes of each word's 32 columns.
        tables: ``[R, 2**n]`` float32.
        out: ``[R, W, 32]`` float, written.
    """
    check_lanes(out)
    lane = lane_indices(out.device)
    left = [tables[:, entry].view(-1, 1, 1) for entry in range(2 ** len(planes))]
    for plane in planes:
        high = ((plane.unsqueeze(-1) >> lane) & 1) != 0
        left = [torch.where(high, two, one) for one, two in zip(left[::2], left[1::2], strict=True)]
    out.copy_(left[0].to(out.dtype))


class RowTablesWeight(StoredWeight):
    """``scale * table[code]`` with a table for each row (SqueezeLLM, arXiv 2306.07629).

    Codes are indices, so they do not move; what moves is the scale of a row, which multiplies its
    whole table. With columns that are no multiple of 32 the last word is padded with code 0.

    Args:
        planes: n times ``[rows, words]`` int32, a bit of 32 codes each.
        table: ``[rows, 2**n]`` float16, in fractions of the scale.
        scale: ``[rows, 1]`` float32, not 0.
        columns: input channels.

    Example:
        >>> codes, table = torch.tensor([[3, 0, 1]]), torch.tensor([[-1.0, -0.5, 0.25, 1.0]])
        >>> store = RowTablesWeight.of_codes(codes, table.half(), torch.tensor([[2.0]]))
        >>> out = torch.empty(1, store.padded_columns)
        >>> store.read(slice(0, 1), [out], None, "reference")
        >>> out[0, :3].tolist()
        [2.0, -2.0, -1.0]
    """

    codes_move: ClassVar[bool] = False

    def __init__(self, planes: list[Tensor], table: Tensor, scale: Tensor, columns: int) -> None:
        self.planes, self.table, self.scale = planes, table, scale
        self.rows, self.columns = table.shape[0], columns
        self.levels = table.shape[1]

    @classmethod
    def of_codes(cls, codes: Tensor, table: Tensor, scale: Tensor) -> "RowTablesWeight":
        """Pack integer codes ``[rows, columns]``; the other arguments are those of the class."""
        planes = code_planes(codes, table.shape[1].bit_length() - 1)
        return cls(planes, table, scale, codes.shape[1])

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return len(self.planes)

    @property
    def device(self) -> torch.device:
        return self.scale.device

    @property
    def title(self) -> str:
        return f"RowTablesWeight of {self.bits} bits"

    @property
    def format_name(self) -> str:
        return self.title

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int32."""
        whole = unpack_planes([plane.unsqueeze(-1) for plane in self.planes])
        return whole.flatten(1)[:, : self.columns]

    def tensors(self) -> dict[str, Tensor]:
        planes = {f"plane{k}": plane for k, plane in enumerate(self.planes)}
        return planes | {"table": self.table, "scale": self.scale}

    def scales(self) -> dict[str, Tensor]:
        return {"scale": self.scale}

    def replace(self, tensors: dict[str, Tensor]) -> "RowTablesWeight":
        planes = [tensors[f"plane{k}"] for k in range(self.bits)]
        return RowTablesWeight(planes, tensors["table"], tensors["scale"], self.columns)

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        if perturbation is not None:
            raise TypeError(_REFUSAL)
        with torch.inference_mode(False):  # an inference tensor would compile the kernel anew
            tables = self.table[rows].float() * self.scale[rows]
        read_row_tables(
            [plane[rows] for plane in self.planes],
            tables,
            outs[0].unflatten(1, (-1, WORD)),
            preference=preference,
        )

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        raise TypeError(_REFUSAL)


def code_planes(codes: Tensor, bits: int) -> list[Tensor]:
    """Integer codes ``[rows, columns]`` as the planes of a `RowTablesWeight`."""
    blocks = to_blocks(codes.to(torch.int32)).squeeze(1)
    return [plane.flatten(1) for plane in pack_planes(blocks, bits)]
