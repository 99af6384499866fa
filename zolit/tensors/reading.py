"""The direction that the weights of a model are read along: one state that all of them share."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.layout import own_rows
from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import Preference, is_compiled
from zolit.noise import Direction, control_table
from zolit.supports import support_table
from zolit.tensors.lengths import Lengths
from zolit.tensors.members import Active, Member, Place
from zolit.tensors.noise_cache import NoiseCache
from zolit.tensors.versions import Stretched, Versions
from zolit.tensors.workspace import Workspace

Kind = TypeVar("Kind")


class Reading:
    """The state that all weights of a model share: which direction they are read along.

    To read along a direction changes this state alone and no weight, so it costs the same for a
    model of any size.

    Args:
        direction: distribution of the directions.
        preference: kernel choice of all reads and updates.
        chunk_bytes: see `Workspace`.

    Attributes:
        workspace: memory that decoded rows are written to.
        noise: what the weights share of the current direction, such as key words.
        curvatures: by the number of a weight, the curvature of the loss along each of its
            coordinates, by whose square root directions are divided (`Perturbation.curvature`). An
            optimizer that estimates it puts its tensors here, and changes them in place.
        lengths: how far each layer has moved from where it started, for reads that stretch this
            way (`stretched`); None where nothing keeps it. An optimizer puts it here.
        repeated: results that the passes over one batch share, by name; None outside of
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
        self.curvatures: dict[int, Tensor] = {}
        self.lengths: Lengths | None = None
        self.repeated: dict[str, Any] | None = None
        self._active: Active | None = None
        self._has_read = False
        self._members: dict[int, Member[Any]] = {}
        self._hashed = False

    # The model's weights

    def register(self, place: Place, coordinates: Any, rows: int, columns: int) -> None:
        """Register a weight that moves; noise is then made for all registered weights at once.

        Args:
            place: its number and support.
            coordinates: the kind of its coordinates.
            rows: its output channels.
            columns: its input channels, rounded up to a multiple of 32.
        """
        self._members[place.index] = Member(place, coordinates, rows, columns)
        self._hashed = self._hashed or place.support.words(place.index) is not None

    def members(self, kind: type[Kind]) -> list[Member[Kind]]:
        """The weights whose coordinates are of one kind, in the order of registration."""
        return [one for one in self._members.values() if isinstance(one.coordinates, kind)]

    @property
    def sites(self) -> list[int]:
        """The numbers of all weights that move."""
        return list(self._members)

    @property
    def importance_weights(self) -> set[float]:
        """The different importance weights of the supports (`Support.importance_weight`)."""
        return {one.place.support.importance_weight for one in self._members.values()}

    @property
    def leaves_weights_out(self) -> bool:
        """Whether there are directions that leave whole weights out."""
        return any(weight > 1 for weight in self.importance_weights)

    # What they read as

    @contextmanager
    def perturbed(self, key: int, eps: float, copies: Literal[1, 2]) -> Iterator[None]:
        """Read all weights that move along the direction ``key`` inside this context.

        Args:
            key: 64-bit key of the direction.
            eps: step along it, in units of the coordinate; its sign counts.
            copies: 1 reads the weights at ``eps`` for the whole batch; 2 reads them at ``+eps`` for
                the first half of the batch and at ``-eps`` for the second half, in one pass.

        Raises:
            RuntimeError: inside another such context.
        """
        with self._reading(Active(key, eps, copies)):
            yield

    @contextmanager
    def perturbed_by_example(
        self, keys: Sequence[int], rows: int, eps: float, copies: Literal[1, 2]
    ) -> Iterator[None]:
        """Read the weights along a direction of its own for each example of the batch.

        Coordinates must be factors of output channels (`zolit.coordinates.OutputScales`), whose
        directions change a product row by row. Others would read along the first key, and refuse.

        Args:
            keys: 64-bit key of each example's direction, in the order of the batch.
            rows: rows of the batch that belong to each example, which stand together.
            eps: see `perturbed`.
            copies: see `perturbed`.

        Raises:
            RuntimeError: inside another such context.
        """
        with self._reading(Active(keys[0], eps, copies, None, tuple(keys), rows)):
            yield

    @contextmanager
    def stretched(self, ratios: Mapping[int, Sequence[float]]) -> Iterator[None]:
        """Read weights at ``anchor + ratio * (weight - anchor)`` inside this context.

        The anchors are those of `lengths`.

        Args:
            ratios: by the number of a weight; two for the two halves of the batch, in one pass, or
                one for the whole batch. Weights that are not named read as they are stored.

        Raises:
            RuntimeError: inside another such context.
        """
        copies = max(map(len, ratios.values()), default=1)
        with self._reading(Active(0, 0.0, copies, ratios)):
            yield

    @contextmanager
    def _reading(self, active: Active) -> Iterator[None]:
        if self._active is not None:
            raise RuntimeError("the weights are read perturbed already; contexts do not nest")
        self._active, self._has_read = active, False
        try:
            yield
        finally:
            self._active = None
            self.noise.clear()

    def stretch(self, place: Place) -> Versions | None:
        """The versions of a weight that is read stretched now; None if it is not."""
        active = self._active
        if active is None or active.ratios is None or self.lengths is None:
            return None
        if not active.moves(place):
            return None
        self._has_read = True
        return Stretched(self.lengths.anchors[place.index], active.ratios[place.index])

    @contextmanager
    def same_batch(self) -> Iterator[None]:
        """Declare that all passes inside this context are over the same batch.

        They may be along different directions. Inside another such context, what passes share is
        forgotten for a while: the weights may differ.
        """
        before, self.repeated = self.repeated, {}
        try:
            yield
        finally:
            self.repeated = before

    def along(self, place: Place) -> Active | None:
        """The direction that a weight is read along; None if it reads as it is stored.

        Every kind of coordinates calls this before it perturbs a weight. `nothing_perturbed_yet`
        relies on it.
        """
        active = self._active
        if active is None or not active.moves(place):
            return None
        self._has_read = True
        return active

    def along_one(self, place: Place) -> Active | None:
        """`along` for coordinates that have one direction for all rows of a batch.

        Raises:
            UserError: if each example has its own now.
        """
        active = self.along(place)
        if active is not None and active.examples:
            raise UserError(
                "estimator: a direction for each example moves factors of output channels alone, "
                "got weights with other coordinates in `tune`; take these out, or use TwoPoint"
            )
        return active

    def moves(self, place: Place | None) -> bool:
        """Whether a weight would be read perturbed now."""
        active = self._active
        return place is not None and active is not None and active.moves(place)

    def copies(self, place: Place | None) -> int:
        """The number of versions that a weight would read as now: 1, or 2 inside a pair."""
        active = self._active
        return active.copies if active is not None and self.moves(place) else 1

    @property
    def compiled(self) -> bool:
        """Whether kernels run compiled."""
        return is_compiled(self.preference)

    @property
    def paired(self) -> bool:
        """Whether the batch has two halves that read different weights."""
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
        """One weight's part of the direction that it is read along; None if it reads as stored.

        Args:
            place: the weight's number and support.
            unit: length of the coordinate's unit, in codes and in weights.
            device: where the noise is made.
        """
        active = self.along_one(place)
        if active is None:
            return None
        controls = self.noise.made("controls", lambda: self.controls(active.key, device))
        amplitude = self.amplitude(active, unit, device)
        control, bits = controls[place.index], place.support.bits()
        curvature = self.curvatures.get(place.index)
        return Perturbation(self.direction, control, amplitude, bits, curvature)

    def amplitude(self, active: Active, unit: tuple[float, float], device: torch.device) -> Tensor:
        """The step along a direction, ``[2]`` float32: counted in codes, and in weights.

        Args:
            active: the direction.
            unit: length of the coordinate's unit, in codes and in weights.
            device: of the result.
        """
        return self.noise.made(
            unit,
            lambda: torch.tensor(
                [active.eps * length for length in unit], dtype=torch.float32, device=device
            ),
        )

    def controls(self, key: int, device: torch.device, update: bool = False) -> dict[int, Tensor]:
        """The key words of a direction (`zolit.noise.coordinates`) for each weight, by its number.

        Args:
            key: 64-bit key of the direction.
            device: where the noise will be made.
            update: whether the noise is for an update, whose rounding draw differs from a read's.
        """
        table = self.control_table(key, self.sites, update).to(device)
        return dict(zip(self._members, own_rows(table), strict=True))

    def control_table(self, key: int, sites: list[int], update: bool = False) -> Tensor:
        """The key words of some weights in one table, on the host.

        Args:
            key: 64-bit key of the direction.
            sites: numbers of the weights.
            update: see `controls`.

        Returns:
            ``[len(sites), 6]`` int32; ``[len(sites), 9]`` where a hash chooses the coordinates that
            move of any of them.
        """
        table = control_table(key, sites, update=update)
        if not self._hashed:
            return table
        words = support_table([(site, self._members[site].place.support) for site in sites])
        return table if words is None else torch.cat((table, words), dim=1)
