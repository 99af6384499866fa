"""What each kind of coordinates defines: how a weight is read along a direction and moved."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.supports import ALL, Support
from zolit.tensors.feedback import Feedback
from zolit.tensors.outputs import Outputs
from zolit.tensors.reading import Reading
from zolit.tensors.step import Step
from zolit.tensors.versions import AS_STORED, Versions


@dataclass(frozen=True)
class Site:
    """A weight's place among the perturbed weights of a model.

    Attributes:
        index: its number, which enters the key of its noise.
        coordinates: the kind of its coordinates, and the length of their unit.
        support: which of these coordinates move.

    Example:
        >>> from zolit.coordinates import Elements
        >>> Site(index=3, coordinates=Elements((1.0, 0.0))).support.density
        1.0
    """

    index: int
    coordinates: "Coordinates"
    support: Support = ALL

    def on(self, device: torch.device) -> "Site":
        """The same place of a weight on another device."""
        support = self.support.on(device)
        return self if support is self.support else replace(self, support=support)


@dataclass(frozen=True)
class Extent:
    """How much of one weight moves.

    Attributes:
        scales: True where the coordinates are scales, whose moves count as fractions of the scale;
            False where they are elements, whose moves count in weights.
        coordinates: number of coordinates.
        length: expected length of a direction: ``sqrt(sum of unit**2)`` over the coordinates that
            move, in weights or in fractions of the scale.

    Example:
        >>> Extent(scales=False, coordinates=4, length=2.0).length
        2.0
    """

    scales: bool
    coordinates: int
    length: float


@dataclass(frozen=True)
class Moving:
    """A weight that a step moves.

    Attributes:
        store: the weight.
        site: its place and coordinates.
        feedback: its rounding errors so far; None without error feedback.

    Example:
        >>> import torch
        >>> from zolit.coordinates import Elements
        >>> from zolit.formats.int8 import Int8Weight
        >>> store = Int8Weight.quantize(torch.ones(4, 64), None)
        >>> Moving(store, Site(0, Elements((1.0, 0.0))), feedback=None).store.rows
        4
    """

    store: StoredWeight
    site: Site
    feedback: Feedback | None


class Coordinates(ABC):
    """One kind of coordinates of a stored weight, with the length of their unit; frozen.

    A direction gives each coordinate a number z. To read a weight along a direction, a kind changes
    either the elements that are decoded (`versions`) or the products with them (`outputs`), and so
    defines one of these two methods. A perturber chooses the kind for each weight
    (`Perturber.coordinates`).

    Attributes:
        rounded: whether `move` rounds onto the grid of the weight's format, so that there is a
            rounding error for error feedback to carry.

    Example:
        `tests/coordinates/test_own_kind.py` has a kind of its own, which moves the first columns of
        each weight::

            perturber:
              class_path: my_parts.FirstColumns # its `coordinates` return the kind
    """

    rounded: ClassVar[bool] = True

    def shape(self, store: StoredWeight) -> tuple[int, int] | None:
        """Rows and columns of the coordinates, by which noise and supports number them.

        None where coordinates cannot be named one by one. Supports that do so are then refused.
        """
        return None

    def check(self, path: str, support: Support) -> None:  # noqa: B027 (most refuse nothing)
        """Refuse a support that this kind of coordinates cannot follow; called before a run.

        Args:
            path: name of the weight.
            support: the mask's choice for it.

        Raises:
            UserError: naming the weight and what to use instead.
        """

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        """The versions of its elements that a weight reads as now."""
        return AS_STORED

    def outputs(self, store: StoredWeight, site: Site, reading: Reading) -> Outputs | None:
        """How a product with the decoded weight changes now; None if it does not.

        Called after each product.
        """
        return None

    def scales_outputs(self, store: StoredWeight) -> bool:
        """Whether a direction is a factor for each output channel (`Outputs.factors`).

        Compiled blocks then multiply by the factors in one pass with the operations that follow the
        product.
        """
        return False

    @abstractmethod
    def move(self, moving: Moving, step: Step) -> None:
        """Move one weight in place by ``sum_q coefficient_q * z_q``."""

    @classmethod
    def move_all(cls, moving: Sequence[Moving], step: Step) -> None:
        """Move all weights of this kind.

        By default one by one. A kind that makes the noise of all of them together overrides this.
        """
        for one in moving:
            one.site.coordinates.move(one, step)

    def moved_tensors(self, store: StoredWeight) -> dict[str, Tensor]:
        """The stored tensors that a step changes, by name. A checkpoint saves these."""
        return store.tensors()

    @abstractmethod
    def extent(self, store: StoredWeight, density: float) -> Extent:
        """How much of a weight moves.

        Args:
            store: the weight; only its scales are read.
            density: fraction of the coordinates that move (`Support.density`).
        """

    def length_in_codes(self, store: StoredWeight) -> float:
        """How far a coordinate of 1 moves a code at most, in codes; 0 where codes do not move."""
        return 0.0

    def spacing(self, store: StoredWeight) -> float:
        """Mean distance of the numbers that `move` rounds onto, in units of the coordinate.

        0 where nothing is rounded, as for scales and float32.
        """
        return 0.0
