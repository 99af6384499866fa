"""What kernels take: rows of a weight as they are stored, and what to read or move them by."""

from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from zolit.noise import Direction


class Stored(NamedTuple):
    """Some rows of a weight, viewed in words of 32 columns.

    Attributes:
        codes: ``[R, G, W, ...]`` tensor for G groups of W words; what stands in the last dimensions
            is the format's own. A list of tensors where a code is spread over them.
        scale: ``[R, G, 1, 1]`` float32, or with a further dimension as decoded values have it;
            None for floats.
        zero: like ``scale``, value of code 0; None where the format knows it.
        rows: ``[R]`` int32 indices of these rows within the weight.
    """

    codes: Any
    scale: Tensor | None
    zero: Tensor | None
    rows: Tensor


class Perturbation(NamedTuple):
    """The direction that a read adds to one weight.

    Attributes:
        direction: distribution of its coordinates.
        control: ``[K]`` int32 key words of this weight (`zolit.noise.coordinates`).
        amplitude: ``[2]`` float32: length of a unit step in code units and in weight units;
            a stored code with scale s moves by ``(amplitude[0] * s + amplitude[1]) * z``.
        bits: ``[rows, words]`` int32 of the whole weight, which coordinates move
            (`zolit.supports.Bits`); kernels get those of their rows (`on_rows`). None: all that
            ``control`` lets move.
    """

    direction: Direction
    control: Tensor
    amplitude: Tensor
    bits: Tensor | None = None


class Query(NamedTuple):
    """One direction of an update and the step along it.

    Attributes:
        direction: distribution of its coordinates.
        control: ``[K]`` int32 key words of the weight (`zolit.noise.coordinates`), or ``[R, K]``,
            of each row.
        coefficient: float32 scalar tensor, in units of the coordinate, or ``[R, 1, 1, 1]``.
        bits: as of `Perturbation`.
    """

    direction: Direction
    control: Tensor
    coefficient: Tensor
    bits: Tensor | None = None


Along = TypeVar("Along", Perturbation, Query)


def on_rows(along: Along, rows: slice | Tensor) -> Along:
    """A direction on some rows of a weight, for a kernel: its bits are those of the rows.

    Args:
        along: of the whole weight.
        rows: a chunk, or ``[R]`` int64 indices.
    """
    bits = along.bits
    if bits is None or (isinstance(rows, slice) and rows.stop - rows.start == len(bits)):
        return along
    return along._replace(bits=bits[rows])


class Update(NamedTuple):
    """By how much to move some rows of a weight.

    Attributes:
        step: ``[R, padded_columns]`` float32, in units of the coordinate, or None. With one row it
            is every row's. Kernels get it in words, as decoded values.
        unit: ``[2]`` float32, length of the unit in codes and in weights; or ``[2, R]``.
        rounding: ``[2]`` int32 key words of this update's stochastic rounding.
        residual: ``[R, padded_columns]`` floats that error feedback carries between steps (QES,
            arXiv 2602.03120), changed in place; None without.
        decay: float32 scalar tensor, factor of the residual.
        query: a direction that adds to the step, made inside the kernel.
    """

    step: Tensor | None
    unit: Tensor
    rounding: Tensor
    residual: Tensor | None = None
    decay: Tensor | None = None
    query: Query | None = None
