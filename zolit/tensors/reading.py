"""The direction that a model's weights are read along: one shared state, switched in O(1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from zolit.formats.base import own_rows
from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import Preference, is_compiled
from zolit.noise import Direction, control_table
from zolit.supports import Support, support_table
from zolit.tensors.noise_cache import NoiseCache
from zolit.tensors.workspace import Workspace

Kind = TypeVar("Kind")


class Place(Protocol):
    """The facts that a weight's noise depends on: its number, and the coordinates that move."""

    @property
    def index(self) -> int: ...

    @property
    def support(self) -> Support: ...


@dataclass(frozen=True)
class Member(Generic[Kind]):
    """A weight that moves, as it is registered with the shared state.

    Attributes:
        place: its number and support.
        coordinates: what of it moves (`zolit.coordinates`).
        rows: its output channels.
        columns: its input channels, padded.
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
        copies: 2 where a batch holds two halves, which read at ``+eps`` and at ``-eps``.
    """

    key: int
    eps: float
    copies: int


class Reading:
    """The state that all weights of a model share.

    Args:
        direction: distribution of the directions.
        preference: kernel choice of all reads and updates.
        chunk_bytes: see `Workspace`.

    Attributes:
        workspace: memory that decoded rows are written to.
        noise: noise of the current direction that the weights share.
        repeated: results that passes over the same batch share, by name; None outside of
            `same_batch`.

    Example:
        >>> reading = Reading(Direction("rademacher"), "reference")
        >>> with reading.perturbed(key=7, eps=1e-3, copies=2):
        ...     reading.paired
        True
        >>> reading.active
        False
    """

    def __init__(
        self,
        direction: Direction | None = None,
        preference: Preference = "auto",
        chunk_bytes: int = 16 << 20,
    ) -> None:
        self.direction = direction or Direction()
        self.preference: Preference = preference
        self.workspace = Workspace(chunk_bytes)
        self.noise = NoiseCache()
        self.repeated: dict[str, Any] | None = None
        self._active: Active | None = None
        self._has_read = False
        self._members: dict[int, Member[Any]] = {}
        self._hashed = False

    # The model's weights

    def register(self, place: Place, coordinates: Any, rows: int, columns: int) -> None:
        """Register a weight, as noise is made for all weights at once.

        Args:
            place: its number and support.
            coordinates: what of it moves.
            rows: its output channels.
            columns: its input channels, padded.
        """
        self._members[place.index] = Member(place, coordinates, rows, columns)
        self._hashed = self._hashed or place.support.words(place.index) is not None

    def members(self, kind: type[Kind]) -> list[Member[Kind]]:
        """The weights that move along coordinates of one kind, in the order of registration."""
        return [one for one in self._members.values() if isinstance(one.coordinates, kind)]

    @property
    def sites(self) -> list[int]:
        """Numbers of all weights that move."""
        return list(self._members)

    @property
    def importance_weights(self) -> set[float]:
        """The importance weights of all supports (`Support.importance_weight`)."""
        return {one.place.support.importance_weight for one in self._members.values()}

    @property
    def leaves_weights_out(self) -> bool:
        """Whether some directions leave whole weights out."""
        return any(weight > 1 for weight in self.importance_weights)

    # What they read as

    @contextmanager
    def perturbed(self, key: int, eps: float, copies: Literal[1, 2]) -> Iterator[None]:
        """Read every perturbed weight along the direction ``key`` inside this context.

        Args:
            key: 64-bit key of the direction.
            eps: step along it, in units of the coordinate; its sign counts.
            copies: 2 reads the weights at ``+eps`` for the first half of the batch and at ``-eps``
                for the second half, in one pass; 1 reads them at ``eps`` for the whole batch.
        """
        if self._active is not None:
            raise RuntimeError("the weights are read perturbed already; contexts do not nest")
        self._active, self._has_read = Active(key, eps, copies), False
        try:
            yield
        finally:
            self._active = None
            self.noise.clear()

    @contextmanager
    def same_batch(self) -> Iterator[None]:
        """Declare that all passes inside this context are over the same batch.

        They may be along different directions.
        """
        self.repeated = {}
        try:
            yield
        finally:
            self.repeated = None

    def along(self, place: Place) -> Active | None:
        """The direction that a weight is being read along; None if it reads as it is stored.

        Every kind of coordinates asks this before it reads a weight perturbed, so that
        `nothing_perturbed_yet` is right.
        """
        active = self._active
        if active is None or not place.support.includes(active.key):
            return None
        self._has_read = True
        return active

    def moves(self, place: Place | None) -> bool:
        """Whether a weight would be read perturbed now."""
        active = self._active
        return place is not None and active is not None and place.support.includes(active.key)

    def copies(self, place: Place | None) -> int:
        """Versions of a weight that would be read now: 1, or 2 inside a pair."""
        active = self._active
        return active.copies if active is not None and self.moves(place) else 1

    @property
    def compiled(self) -> bool:
        """Whether kernels run compiled."""
        return is_compiled(self.preference)

    @property
    def paired(self) -> bool:
        """Whether the batch holds two halves that read different weights."""
        return self._active is not None and self._active.copies == 2

    @property
    def active(self) -> bool:
        """Whether weights are read along a direction."""
        return self._active is not None

    @property
    def nothing_perturbed_yet(self) -> bool:
        """Whether no weight has been read perturbed since `perturbed` was entered."""
        return self._active is None or not self._has_read

    # Their noise

    def perturbation(
        self, place: Place, unit: tuple[float, float], device: torch.device
    ) -> Perturbation | None:
        """A weight's share of the direction that it is read along; None at rest.

        Args:
            place: the weight's number and support.
            unit: length of the coordinate's unit in codes, in weights.
            device: where the noise is made.
        """
        active = self.along(place)
        if active is None:
            return None
        controls = self.noise.made("controls", lambda: self.controls(active.key, device))
        amplitude = self.amplitude(active, unit, device)
        return Perturbation(self.direction, controls[place.index], amplitude, place.support.bits())

    def amplitude(self, active: Active, unit: tuple[float, float], device: torch.device) -> Tensor:
        """Length of the step along a direction, ``[2]`` float32: in codes, in weights."""
        return self.noise.made(
            unit,
            lambda: torch.tensor(
                [active.eps * length for length in unit], dtype=torch.float32, device=device
            ),
        )

    def controls(self, key: int, device: torch.device, update: bool = False) -> dict[int, Tensor]:
        """Key words of the direction ``key`` (`coordinates` in `zolit.noise`) for every weight, by
        its number.

        Args:
            key: 64-bit key of the direction.
            device: where the noise will be made.
            update: whether it is for an update: its rounding draw is another than a read's.
        """
        table = self.control_table(key, self.sites, update).to(device)
        return dict(zip(self._members, own_rows(table), strict=True))

    def control_table(self, key: int, sites: list[int], update: bool = False) -> Tensor:
        """`controls` of some weights in one table, ``[len(sites), 6]`` int32 on the host.

        ``[len(sites), 9]`` where a hash leaves coordinates of some weight out.
        """
        table = control_table(key, sites, update=update)
        if not self._hashed:
            return table
        words = support_table([(site, self._members[site].place.support) for site in sites])
        return table if words is None else torch.cat((table, words), dim=1)
