"""The arguments of kernels: rows of a stored weight, a direction, and an update."""

from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from zolit.noise import Direction


class Stored(NamedTuple):
    """Some rows of a weight, viewed in words of 32 columns.

    Attributes:
        codes: ``[R, G, W, ...]`` for G groups of W words; each format has its own last dimensions.
            A list of such tensors where the bits of a code are spread over several.
        scale: ``[R, G, 1, 1]`` float32, or a shape that broadcasts with decoded values of five
            dimensions. None for floats.
        zero: the value of code 0, shaped like ``scale``; None where the format fixes it.
        rows: ``[R]`` int32 indices of these rows within the weight.
    """

    codes: Any
    scale: Tensor | None
    zero: Tensor | None
    rows: Tensor


class Perturbation(NamedTuple):
    """The direction that a read adds to one weight.

    Attributes:
        direction: distribution of its coordinates z.
        control: ``[K]`` int32 key words of this weight (`zolit.noise.coordinates`).
        amplitude: ``[2]`` float32: eps in code units, and eps in weight units. A code of scale s
            reads ``(amplitude[0] * s + amplitude[1]) * z`` higher, counted in weights.
        bits: ``[rows, words]`` int32, which coordinates of the whole weight move
            (`zolit.supports.Bits`). A kernel gets those of its rows (`on_rows`). None where no bits
            are kept.
        curvature: ``[rows, 32 * words]`` float32, an estimate of the loss's curvature along each
            coordinate of the whole weight (HiZOO): the coordinates of the direction are divided by
            its square root. A kernel gets that of its rows. None for 1 everywhere.
    """

    direction: Direction
    control: Tensor
    amplitude: Tensor
    bits: Tensor | None = None
    curvature: Tensor | None = None


class Query(NamedTuple):
    """One direction of an update and the step along it.

    Attributes:
        direction: distribution of its coordinates.
        control: ``[K]`` int32 key words of the weight (`zolit.noise.coordinates`); or ``[R, K]``,
            key words of each row.
        coefficient: the signed step, in units of the coordinate: a float32 scalar tensor, or
            ``[R, 1, 1, 1]``, one for each row.
        bits: see `Perturbation`.
        curvature: see `Perturbation`.
    """

    direction: Direction
    control: Tensor
    coefficient: Tensor
    bits: Tensor | None = None
    curvature: Tensor | None = None


Along = TypeVar("Along", Perturbation, Query)


def on_rows(along: Along, rows: slice | Tensor) -> Along:
    """A direction as a kernel of some rows takes it: with bits and curvature of these rows alone.

    Args:
        along: the direction on the whole weight.
        rows: a slice, or ``[R]`` int64 indices.
    """
    return along._replace(bits=_of(along.bits, rows), curvature=_of(along.curvature, rows))


def _of(values: Tensor | None, rows: slice | Tensor) -> Tensor | None:
    """Some rows of a tensor that holds those of a whole weight."""
    if values is None or (isinstance(rows, slice) and rows.stop - rows.start == len(values)):
        return values
    return values[rows]


class Update(NamedTuple):
    """How far to move the elements of some rows of a weight.

    Kernels get the tensors of ``[R, padded_columns]`` in words, shaped like decoded values.

    Attributes:
        step: ``[R, padded_columns]`` float32 in units of the coordinate, or ``[1,
            padded_columns]``, the same for every row. None for no step but that of ``query``.
        unit: float32, the length of the coordinate's unit in codes and in weights: ``[2]``, or
            ``[2, R]``, that of each row.
        rounding: ``[2]`` int32 key words of this update's stochastic rounding.
        residual: ``[R, padded_columns]`` floats, changed in place: the rounding errors that error
            feedback carries from step to step (QES, arXiv 2602.03120). None without it.
        decay: float32 scalar tensor, the factor of the residual; None without one.
        query: a direction whose coordinates the kernel makes and adds to ``step``; None for none.
    """

    step: Tensor | None
    unit: Tensor
    rounding: Tensor
    residual: Tensor | None = None
    decay: Tensor | None = None
    query: Query | None = None
