"""The weights that share a `Reading`, and what they are read along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

from zolit.supports import Support

Kind = TypeVar("Kind")


class Place(Protocol):
    """What the noise of a weight depends on: its number, and which of its coordinates move."""

    @property
    def index(self) -> int: ...

    @property
    def support(self) -> Support: ...


@dataclass(frozen=True)
class Member(Generic[Kind]):
    """A weight that moves, as it is registered with the shared state.

    Attributes:
        place: its number and support.
        coordinates: the kind of its coordinates (`zolit.coordinates`).
        rows: its output channels.
        columns: its input channels, rounded up to a multiple of 32.
    """

    place: Place
    coordinates: Kind
    rows: int
    columns: int


class Active(NamedTuple):
    """A direction that weights are read along.

    Attributes:
        key: its 64-bit key.
        eps: step along it, in units of the coordinate; its sign counts.
        copies: 2 where the batch has two halves that read at ``+eps`` and at ``-eps``; else 1.
        ratios: where weights are read stretched (`Reading.stretched`): by the number of each its
            ratio in each version. There is no direction then. None where weights are perturbed.
        examples: keys of the directions of single examples (`Reading.perturbed_by_example`); empty
            where all rows read along ``key``.
        rows: rows of the batch that belong to each example.
    """

    key: int
    eps: float
    copies: int
    ratios: Mapping[int, Sequence[float]] | None = None
    examples: tuple[int, ...] = ()
    rows: int = 1

    def moves(self, place: Place) -> bool:
        """Whether a weight is not read as it is stored."""
        if self.ratios is not None:
            return place.index in self.ratios
        return place.support.includes(self.key)
