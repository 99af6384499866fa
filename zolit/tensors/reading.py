"""What the weights of a model read as right now: one shared state, switched in O(1)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from zolit.formats.base import own_rows, without_base
from zolit.kernels.arguments import Perturbation, Query
from zolit.kernels.dispatch import Preference, is_compiled
from zolit.kernels.outputs import output_factors
from zolit.noise import BLOCKS, Direction, control_table, fold
from zolit.tensors.low_rank import Factors, low_rank_factors
from zolit.tensors.scales import relative_length, scale_step
from zolit.tensors.vectors import Vectors


@dataclass(frozen=True)
class Site:
    """A weight's place among the perturbed weights of a model.

    Attributes:
        index: its number; part of the key of its noise.
        coordinates: ``elements`` (each code or float of the weight), ``low_rank`` (the same,
            along a direction of low rank), ``output_scales`` (one factor for each row) or
            ``scales`` (each scale by itself).
        unit: length of the coordinate's unit in codes and in weights (`Perturbation.amplitude`).
            For output scales the second number is the unit as a fraction of the scale; for scales
            it is the unit itself, and the first number a fraction of the scale.
        block: number of its block among those that hold a tuned weight.
    """

    index: int
    coordinates: Literal["elements", "low_rank", "output_scales", "scales"]
    unit: tuple[float, float]
    block: int = 0

    @property
    def scales_only(self) -> bool:
        """Whether codes stay as they are."""
        return self.coordinates in ("output_scales", "scales")


@dataclass(frozen=True)
class _Active:
    key: int
    eps: float
    copies: int


@dataclass(frozen=True)
class Buffers:
    """Memory for one or two decoded versions of some rows.

    Attributes:
        whole: ``[copies, rows, columns]``, for one batched product.
        parts: the same memory version by version, ``[rows, columns]`` each, for kernels to write.
    """

    whole: Tensor
    parts: list[Tensor]


class Reading:
    """The state that all weights of a model share.

    Attributes:
        direction: distribution of the directions.
        preference: kernel choice of all reads and updates.
        chunk_bytes: size of the buffers that decoded rows are written to. The peak of a step
            above the stored weights is its activations plus this.
        blocks: consecutive blocks that a direction moves; None for all.

    Attributes:
        repeated: what passes over the same batch share, by name; None outside of `same_batch`.
    """

    def __init__(
        self,
        direction: Direction | None = None,
        preference: Preference = "auto",
        chunk_bytes: int = 16 << 20,
        blocks: int | None = None,
    ) -> None:
        self.direction = direction or Direction()
        self.preference: Preference = preference
        self.chunk_bytes = chunk_bytes
        self.blocks = blocks
        self.repeated: dict[str, Any] | None = None
        self._active: _Active | None = None
        self._sites: dict[int, None] = {}
        self._blocks = 0
        self._controls: dict[int, Tensor] = {}
        self._amplitudes: dict[tuple[float, float], Tensor] = {}
        self._output_rows: dict[Site, int] = {}
        self._factors: dict[Site, Tensor] = {}
        self._shapes: dict[int, tuple[int, int]] = {}
        self._low_rank: dict[int, Factors] = {}
        self._memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._buffers: dict[tuple[tuple[int, int, int], torch.dtype, torch.device], Buffers] = {}

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
        self._active = _Active(key, eps, copies)
        try:
            yield
        finally:
            self._active = None
            self._controls.clear()
            self._amplitudes.clear()
            self._factors.clear()
            self._low_rank.clear()

    @contextmanager
    def same_batch(self) -> Iterator[None]:
        """Inside, every pass through the model is over the same batch, along one direction or
        another.
        """
        self.repeated = {}
        try:
            yield
        finally:
            self.repeated = None

    def register(self, site: Site, rows: int, columns: int) -> None:
        """Announce a weight: the words that make the noise of all weights, their output factors
        and the factors of their directions are made at once.

        Args:
            site: its place.
            rows: its output channels.
            columns: its input channels, padded.
        """
        self._sites[site.index] = None
        self._blocks = max(self._blocks, site.block + 1)
        if site.coordinates == "output_scales":
            self._output_rows[site] = rows
        elif site.coordinates == "low_rank":
            self._shapes[site.index] = (rows, columns)

    @property
    def rarity(self) -> float:
        """How many directions it takes on average for one that moves a given weight. An update
        counts each that many times, which leaves the estimate unbiased.
        """
        return 1.0 if self.blocks is None else max(1.0, self._blocks / self.blocks)

    def includes(self, site: Site, key: int) -> bool:
        """Whether the direction ``key`` moves the weight at ``site``.

        The blocks that it moves follow one another from one that the key draws; behind the last
        comes the first.
        """
        if self.blocks is None:
            return True
        return (site.block - fold(key, BLOCKS)) % self._blocks < self.blocks

    def moves(self, site: Site | None) -> bool:
        """Whether the weight at ``site`` is read perturbed now."""
        return self._moving(site) is not None

    def _moving(self, site: Site | None) -> _Active | None:
        """The direction that the weight at ``site`` is read along; None if it reads as stored."""
        active = self._active
        if site is None or active is None or not self.includes(site, active.key):
            return None
        return active

    def copies(self, site: Site | None) -> int:
        """Versions of the weight at ``site`` that are read now: 1, or 2 inside a pair."""
        active = self._moving(site)
        return 1 if active is None else active.copies

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
    def untouched(self) -> bool:
        """Whether no weight has been read perturbed yet since `perturbed` was entered: the first
        that is makes the words or factors of all.
        """
        return not (self._controls or self._factors or self._low_rank)

    def perturbation(self, site: Site | None, device: torch.device) -> Perturbation | None:
        """What to add to the weight at ``site``, None if it reads as it is stored."""
        active = self._moving(site)
        if site is None or active is None:
            return None
        if not self._controls:
            self._controls = self.controls(active.key, device)
        amplitude = self._amplitude(active, site, device)
        return Perturbation(self.direction, self._controls[site.index], amplitude)

    def _amplitude(self, active: _Active, site: Site, device: torch.device) -> Tensor:
        if site.unit not in self._amplitudes:
            length = [active.eps * u for u in site.unit]
            self._amplitudes[site.unit] = torch.tensor(length, dtype=torch.float32, device=device)
        return self._amplitudes[site.unit]

    @property
    def sites(self) -> list[int]:
        """Indices of the sites of all weights."""
        return list(self._sites)

    def controls(self, key: int, device: torch.device, update: bool = False) -> dict[int, Tensor]:
        """Key words of the direction ``key`` (`control_table`) for every site, by its index."""
        table = control_table(self.direction, key, self.sites, update=update).to(device)
        return dict(zip(self._sites, own_rows(table), strict=True))

    def output_factors(self, site: Site, device: torch.device) -> Tensor | None:
        """``1 +- amplitude * z`` of each output channel, ``[copies, 1, rows]``; None at rest.

        The first call of a query makes the factors of all weights at once.
        """
        active = self._moving(site)
        if active is None:
            return None
        if not self._factors:
            self._factors = self._make_factors(active, device)
        return self._factors[site]

    def _make_factors(self, active: _Active, device: torch.device) -> dict[Site, Tensor]:
        sites = [site for site in self._output_rows if self.moves(site)]
        vectors = Vectors.of([self._output_rows[site] for site in sites], device)
        controls = control_table(self.direction, active.key, [site.index for site in sites])
        amplitudes = torch.tensor([active.eps * site.unit[1] for site in sites])
        factors = torch.empty(active.copies, *vectors.shape, device=device)
        noise = Perturbation(
            self.direction,
            vectors.by_word(controls).to(device),
            vectors.by_word(amplitudes).view(-1, 1, 1, 1).to(device),
        )
        outs = [without_base(copy) for copy in factors]
        output_factors(outs, vectors.rows, noise, preference=self.preference)
        parts = vectors.split(factors)
        return {site: part.unsqueeze(1) for site, part in zip(sites, parts, strict=True)}

    def low_rank(self, site: Site, device: torch.device) -> tuple[Tensor, Factors] | None:
        """Length of the step in each version, ``[copies, 1, 1]`` in weights, and the factors of
        the direction; None at rest.

        The first call of a query makes the factors of all weights at once.
        """
        active = self._moving(site)
        if active is None:
            return None
        if not self._low_rank:
            self._low_rank = self.factors(active.key, device)
        length = self._amplitude(active, site, device)[1]
        lengths = torch.stack((length, -length)[: active.copies])
        return lengths.view(-1, 1, 1), self._low_rank[site.index]

    def factors(self, key: int, device: torch.device) -> dict[int, Factors]:
        """Factors of the direction ``key`` for every weight that moves along low rank."""
        return low_rank_factors(self.direction, key, self._shapes, device, self.preference)

    def scale_factors(self, site: Site, scale: Tensor) -> list[Tensor] | None:
        """What each scale is multiplied by in each version that is read now; None at rest.

        Args:
            site: with coordinates ``scales``.
            scale: ``[rows, groups]`` float32.

        Returns:
            One or two ``[rows, groups]`` float32.
        """
        noise = self.perturbation(site, scale.device)
        if noise is None:
            return None
        unit = torch.ones((), device=scale.device)
        query = Query(noise.direction, noise.control, unit)
        z = scale_step(scale, query, self.preference)
        move = relative_length(scale, noise.amplitude) * z
        return [1.0 + move, 1.0 - move][: self.copies(site)]

    def rows_per_chunk(self, columns: int, item_bytes: int) -> int:
        """Rows of a weight that fit into the buffers at once.

        Each of a pair's two buffers gets half, also where only one is read: it is reused. Products
        of odd numbers of rows are slow, so it is a multiple of 64 where it is more than that.
        """
        most = self.chunk_bytes // (2 * columns * item_bytes)
        return max(1, most - most % 64 if most > 64 else most)

    def buffers(
        self, copies: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> Buffers:
        """Reused memory for ``copies`` x ``[rows, columns]``; valid until the next call."""
        need = copies * rows * columns
        shape = (copies, rows, columns)
        memory = self._memory.get((dtype, device))
        if memory is None or memory.numel() < need:
            # It outlives the evaluation that made it; an inference tensor could not be written
            # to by the next fit.
            with torch.inference_mode(False):
                memory = torch.empty(need, dtype=dtype, device=device)
            self._memory[dtype, device] = memory
            self._buffers = {k: v for k, v in self._buffers.items() if k[1:] != (dtype, device)}
        found = self._buffers.get((shape, dtype, device))
        if found is None:
            whole = memory[:need].view(shape)
            found = Buffers(whole, [without_base(part) for part in whole])
            self._buffers[shape, dtype, device] = found
        return found

    @property
    def buffer_bytes(self) -> int:
        """Memory that the buffers hold now."""
        return sum(m.numel() * m.element_size() for m in self._memory.values())
