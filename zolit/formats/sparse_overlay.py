"""A weight of which a few entries are floats of their own, beside the codes of all (SensZOQ)."""

from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zolit.digests import tensor_digests
from zolit.formats.base import Rows, StoredWeight
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference
from zolit.kernels.entries import put_entries


class Entries(NamedTuple):
    """The floats that lie in some rows.

    Attributes:
        places: ``[N]`` integers, where they lie in these rows, one decoded row behind the other.
        values: ``[N]`` float32.
        numbers: ``[N]`` int32, which of the weight's floats they are.
    """

    places: Tensor
    values: Tensor
    numbers: Tensor


class SparseOverlay(StoredWeight):
    """Another weight in any format, of which some entries are floats that stand beside it.

    A read decodes the other weight and overwrites these entries, so that what stands under them
    does not matter (SensZOQ, arXiv 2406.02913: 0.1 % of a matrix in 16 bits beside 4-bit codes).
    Only the floats move, by `zolit.coordinates.Entries`; they are float32, and a read in bfloat16
    rounds them to nearest.

    Args:
        dense: the other weight.
        positions: ``[N]`` int32, or int64 where a matrix has more than 2**31 entries: ``row *
            padded_columns + column``, with the column as ``dense`` decodes it. Rows rise.
        values: ``[N]`` float32.

    Raises:
        ValueError: if ``dense`` is multiplied in integers, which floats cannot be.

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> dense = Int8Weight.quantize(torch.tensor([[1.0, -2.0], [0.5, 0.0]]), None)
        >>> store = SparseOverlay.of(dense, torch.tensor([1]), torch.tensor([-2.25]))
        >>> out = torch.empty(1, store.padded_columns)
        >>> store.read(slice(0, 1), [out], None, "reference")
        >>> out[0, 1].item()
        -2.25
    """

    def __init__(self, dense: StoredWeight, positions: Tensor, values: Tensor) -> None:
        if dense.integer_products:
            raise ValueError(f"{dense.title} is multiplied in integers, not with floats")
        self.dense, self.positions, self.values = dense, positions, values
        self.rows, self.columns = dense.rows, dense.columns
        self.levels, self.activation_dtype = dense.levels, dense.activation_dtype
        self._spans: dict[tuple[int, int], slice] = {}

    @classmethod
    def of(cls, dense: StoredWeight, entries: Tensor, values: Tensor) -> "SparseOverlay":
        """A weight around floats that are given by their place in the model's matrix.

        Args:
            dense: the other weight.
            entries: ``[N]`` int64, ``row * columns + column``, rising.
            values: ``[N]`` float32.
        """
        numbers = torch.arange(dense.padded_columns, device=entries.device).unsqueeze(0)
        stored = dense.in_model_order(numbers)[0]  # the stored column of each of the model's
        column = entries % dense.columns
        return cls.at(dense, entries - column + stored[column], values)

    @classmethod
    def at(cls, dense: StoredWeight, entries: Tensor, values: Tensor) -> "SparseOverlay":
        """The same, with columns as ``dense`` stores them; they need rise in rows alone."""
        padding = dense.padded_columns - dense.columns
        places = entries + entries // dense.columns * padding
        narrow = dense.rows * dense.padded_columns < 1 << 31
        return cls(dense, places.to(torch.int32 if narrow else torch.int64), values)

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def format_name(self) -> str:
        return f"SparseOverlay of {self.dense.format_name}"

    @property
    def title(self) -> str:
        return f"SparseOverlay of {self.dense.title}"

    def tensors(self) -> dict[str, Tensor]:
        return {**self.dense.tensors(), "positions": self.positions, "values": self.values}

    def scales(self) -> dict[str, Tensor]:
        return self.dense.scales()

    def replace(self, tensors: dict[str, Tensor]) -> "SparseOverlay":
        return SparseOverlay(self.dense.replace(tensors), tensors["positions"], tensors["values"])

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"entries": len(self.values), "at": self._digest}

    @cached_property
    def _digest(self) -> str:
        """Tells one choice of entries from another; nothing where there are no numbers."""
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
        """As of `StoredWeight`; the coordinates of a perturbation are the floats, by number."""
        self.dense.read_copies(rows, outs, preference)
        found = self.entries(rows)
        flat = [out.view(-1) for out in outs]
        if perturbation is None:
            for out in flat:
                out[found.places] = found.values.to(out.dtype)
        else:
            put_entries(flat, *found, perturbation, preference=preference)

    def entries(self, rows: Rows) -> Entries:
        """The floats that lie in some rows, each row's behind those of the row before it."""
        width = self.padded_columns
        if isinstance(rows, slice):
            span = self._span(rows.start, rows.stop)
            places = self.positions[span]
            numbers = torch.arange(span.start, span.stop, dtype=torch.int32, device=self.device)
            return Entries(places - rows.start * width, self.values[span], numbers)
        if rows.is_meta:  # as many as in other rows
            return self.entries(slice(0, min(self.rows, len(rows))))
        first = rows.to(self.positions.dtype) * width
        starts = torch.searchsorted(self.positions, first)
        counts = torch.searchsorted(self.positions, first + width) - starts
        which = torch.arange(len(rows), device=rows.device).repeat_interleave(counts)
        before = counts.cumsum(0) - counts
        numbers = torch.arange(len(which), device=rows.device) + (starts - before)[which]
        places = self.positions[numbers] - first[which] + which * width
        return Entries(places, self.values[numbers], numbers.to(torch.int32))

    def _span(self, start: int, stop: int) -> slice:
        """Numbers of the floats in neighbouring rows; found once."""
        if self.positions.is_meta:
            count = len(self.values)
            return slice(count * start // self.rows, count * stop // self.rows)
        if (start, stop) not in self._spans:
            width, kind = self.padded_columns, self.positions.dtype
            bounds = torch.tensor([start * width, stop * width], dtype=kind, device=self.device)
            self._spans[start, stop] = slice(*torch.searchsorted(self.positions, bounds).tolist())
        return self._spans[start, stop]

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        raise TypeError("of an overlay only its floats move, by zolit.coordinates.Entries")

    def keep_views(self) -> None:
        self.dense.keep_views()

    def activations(self, x: Tensor) -> Tensor:
        return self.dense.activations(x)

    def in_model_order(self, decoded: Tensor) -> Tensor:
        return self.dense.in_model_order(decoded)
