"""Codes of a few bits, each of which names a value in the table of its row (SqueezeLLM).

The bits of a code lie in planes, as in `zolit.formats.bit_planes`. A read never forms a code. It
starts from all entries of the table, and each plane halves them: of every two neighbours its bit
selects one. These selections stay in vector registers, where a look-up by index would load its
values one by one.
"""

import torch
from torch import Tensor

from zolit.formats.bit_planes import pack_planes, unpack_planes
from zolit.formats.indices import IndexWeight
from zolit.formats.layout import to_blocks
from zolit.formats.rows import Rows
from zolit.kernels.dispatch import Preference, kernel
from zolit.noise import WORD, check_lanes, lane_indices


@kernel
def read_row_tables(planes: list[Tensor], tables: Tensor, out: Tensor) -> None:
    """``out[r, c] = tables[r, code[r, c]]``.

    Args:
        planes: n times ``[R, W]`` int32. Plane k holds bit k of the codes of each word's 32
            columns.
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


class RowTablesWeight(IndexWeight):
    """``scale * table[code]`` with a table for each row (SqueezeLLM, arXiv 2306.07629).

    Where 32 does not divide the columns, the last word is padded with code 0.

    Args:
        planes: n times ``[rows, words]`` int32. An element holds one bit of the codes of 32
            columns.
        table: ``[rows, 2**n]`` float16, in fractions of the scale.
        scale: ``[rows, 1]`` float32, not 0.
        columns: input channels.

    Example:
        >>> codes, table = torch.tensor([[3, 0, 1]]), torch.tensor([[-1.0, -0.5, 0.25, 1.0]])
        >>> store = RowTablesWeight.of_codes(codes, table.half(), torch.tensor([[2.0]]))
        >>> store.decoded(slice(0, 1)).tolist()
        [[2.0, -2.0, -1.0]]
    """

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
        """Number of bits of a code."""
        return len(self.planes)

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

    def replace(self, tensors: dict[str, Tensor]) -> "RowTablesWeight":
        planes = [tensors[f"plane{k}"] for k in range(self.bits)]
        return RowTablesWeight(planes, tensors["table"], tensors["scale"], self.columns)

    def look_up(self, rows: Rows, out: Tensor, preference: Preference) -> None:
        with torch.inference_mode(False):  # an inference tensor would compile the kernel anew
            tables = self.table[rows].float() * self.scale[rows]
        read_row_tables(
            [plane[rows] for plane in self.planes],
            tables,
            out.unflatten(1, (-1, WORD)),
            preference=preference,
        )


def code_planes(codes: Tensor, bits: int) -> list[Tensor]:
    """Integer codes ``[rows, columns]`` as the planes of a `RowTablesWeight`, ``bits`` of them."""
    blocks = to_blocks(codes.to(torch.int32)).squeeze(1)
    return [plane.flatten(1) for plane in pack_planes(blocks, bits)]
