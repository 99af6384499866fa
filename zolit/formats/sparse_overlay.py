"""A weight in any format, with a few of its entries kept as floats beside it (SensZOQ)."""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zolit.digests import tensor_digests
from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.formats.wrapped import WrappedWeight
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference
from zolit.kernels.entries import put_entries


class Entries(NamedTuple):
    """The floats of an overlay that belong to some rows.

    Attributes:
        places: ``[N]`` integers: the index of each float in these rows, decoded and flattened.
        values: ``[N]`` float32.
        numbers: ``[N]`` int32: the number of each float among all floats of the weight.
    """

    places: Tensor
    values: Tensor
    numbers: Tensor


class SparseOverlay(WrappedWeight):
    """A weight in any format, and floats beside it that replace some of its entries.

    A read decodes the weight and overwrites these entries, so what the weight itself holds there
    does not matter (SensZOQ, arXiv 2406.02913: 0.1 % of a matrix in 16 bits beside 4-bit codes).
    Only the floats move, by `zolit.coordinates.Entries`. They are float32; a read of the stored
    weight in bfloat16 rounds them to nearest.

    Args:
        inner: the weight that holds all other entries.
        positions: ``[N]`` int32, or int64 where the matrix has 2**31 entries or more: the place of
            each float, ``row * padded_columns + column``, where ``inner`` decodes it to. The rows
            are in rising order.
        values: ``[N]`` float32.

    Raises:
        ValueError: if the products of ``inner`` are of integers, which have no place for floats.

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> inner = Int8Weight.quantize(torch.tensor([[1.0, -2.0], [0.5, 0.0]]), None)
        >>> store = SparseOverlay.of(inner, torch.tensor([1]), torch.tensor([-2.25]))
        >>> out = torch.empty(1, store.padded_columns)
        >>> store.read(slice(0, 1), [out], None, "reference")
        >>> out[0, 1].item()
        -2.25
    """

    def __init__(self, inner: StoredWeight, positions: Tensor, values: Tensor) -> None:
        if inner.integer_products:
            raise ValueError(f"{inner.title} is multiplied in integers, not with floats")
        super().__init__(inner)
        self.positions, self.values = positions, values
        self.activation_dtype = inner.activation_dtype
        self._spans: dict[tuple[int, int], slice] = {}

    @classmethod
    def of(cls, inner: StoredWeight, entries: Tensor, values: Tensor) -> "SparseOverlay":
        """An overlay of entries that are given by their place in the model's matrix.

        Args:
            inner: the weight that holds all other entries.
            entries: ``[N]`` int64 in rising order: ``row * columns + column`` of the model.
            values: ``[N]`` float32.
        """
        numbers = torch.arange(inner.padded_columns, device=entries.device).unsqueeze(0)
        stored = inner.in_model_order(numbers)[0]  # stored column of each column of the model
        column = entries % inner.columns
        return cls.at(inner, entries - column + stored[column], values)

    @classmethod
    def at(cls, inner: StoredWeight, entries: Tensor, values: Tensor) -> "SparseOverlay":
        """`of` with the columns that ``inner`` stores; only the rows need to be in rising order."""
        padding = inner.padded_columns - inner.columns
        places = entries + entries // inner.columns * padding
        narrow = inner.rows * inner.padded_columns < 1 << 31
        return cls(inner, places.to(torch.int32 if narrow else torch.int64), values)

    def tensors(self) -> dict[str, Tensor]:
        return {**self.inner.tensors(), "positions": self.positions, "values": self.values}

    def replace(self, tensors: dict[str, Tensor]) -> "SparseOverlay":
        return SparseOverlay(self.inner.replace(tensors), tensors["positions"], tensors["values"])

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"entries": len(self.values), "at": self._digest}

    @cached_property
    def _digest(self) -> str:
        """A digest of the positions, so that fingerprints tell one choice of entries from another.

        Empty on the meta device.
        """
        if self.positions.is_meta:
            return ""
        return tensor_digests({"positions": self.positions})["positions"]

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        """See `StoredWeight`. The coordinates of a perturbation are the floats, by their number."""
        self.inner.read(rows, outs, None, preference)
        found = self.entries(rows)
        flat = [out.view(-1) for out in outs]
        if perturbation is None:
            for out in flat:
                out[found.places] = found.values.to(out.dtype)
        else:
            put_entries(flat, *found, perturbation, preference=preference)

    def entries(self, rows: Rows) -> Entries:
        """The floats of some rows, in the order of these rows."""
        width = self.padded_columns
        if isinstance(rows, slice):
            span = self._span(rows.start, rows.stop)
            places = self.positions[span]
            numbers = torch.arange(span.start, span.stop, dtype=torch.int32, device=self.device)
            return Entries(places - rows.start * width, self.values[span], numbers)
        if rows.is_meta:  # counted as if floats were spread evenly
            return self.entries(slice(0, min(self.rows, len(rows))))
        first = rows.to(self.positions.dtype) * width
        starts = torch.searchsorted(self.positions, first)
        counts = torch.searchsorted(self.positions, first + width) - starts
        which = torch.arange(len(rows), device=rows.device).repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        numbers = torch.arange(len(which), device=rows.device) + (starts - before)[which]
        places = self.positions[numbers] - first[which] + which * width
        return Entries(places, self.values[numbers], numbers.to(torch.int32))

    def entries_in_model_order(self) -> Tensor:
        """Where the floats lie in the model's matrix, ``row * columns + column``, rising int64."""
        columns = torch.arange(self.columns, device=self.device).unsqueeze(0)
        stored = self.inner.in_stored_order(columns)[0]  # the model's column of each stored one
        places = self.positions.long()
        rows, width = places // self.padded_columns, self.padded_columns
        found: Tensor = rows * self.columns + stored[places % width]
        return found.sort().values

    def _span(self, start: int, stop: int) -> slice:
        """Numbers of the floats in the rows from ``start`` to ``stop``; each span is found once."""
        if self.positions.is_meta:
            count = len(self.values)
            return slice(count * start // self.rows, count * stop // self.rows)
        if (start, stop) not in self._spans:
            width, kind = self.padded_columns, self.positions.dtype
            bounds = torch.tensor([start * width, stop * width], dtype=kind, device=self.device)
            self._spans[start, stop] = slice(*torch.searchsorted(self.positions, bounds).tolist())
        return self._spans[start, stop]

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        raise TypeError(f"of a {self.title} only its floats move (zolit.coordinates.Entries)")
