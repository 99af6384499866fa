"""What models ask of the parts that a recipe names, as small protocols.

The parts themselves stand above models (`zolit.strategies`): a quantizer stores weights, a
perturber names the coordinates that move, a mask chooses some of these.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from zolit.formats.base import StoredWeight
from zolit.supports import Support
from zolit.tensors.site import Coordinates
from zolit.tensors.weight import PerturbedWeight

Excluded = Callable[[str, Tensor], Tensor | None]
"""``excluded(path, weight)``: ``[rows, columns]`` bool, entries of a float weight that will be kept
as floats beside its codes; None for none."""


class StoresWeights(Protocol):
    """A `zolit.strategies.Quantizer`, or the layers that a quantized checkpoint keeps."""

    @property
    def quantized(self) -> bool: ...

    @property
    def converts(self) -> bool: ...

    @property
    def calibrated(self) -> bool: ...

    @property
    def keep_error(self) -> bool: ...

    @property
    def straight_through(self) -> bool: ...

    def calibrate(self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None) -> None:
        """Look at the float model before its weights are stored, but for excluded entries."""

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> StoredWeight:
        """A weight ``[rows, columns]`` in the storage format; ``path`` is its parameter's name.

        Excluded entries, ``[rows, columns]`` bool, stand as floats beside it.
        """


class NamesCoordinates(Protocol):
    """A `zolit.strategies.Perturber`."""

    @property
    def overlays(self) -> bool: ...

    def coordinates(self, store: StoredWeight) -> Coordinates:
        """What of one weight moves, and its unit."""

    def settle(self, weights: Sequence[PerturbedWeight], adapter: bool = False) -> None:
        """Choose ``eps`` if it was left open, now that the weights are known."""


class Candidate(NamedTuple):
    """A weight that moves, as a mask is asked about it.

    Attributes:
        path: name of the parameter in the model.
        weight: as it is stored; `StoredWeight.read` decodes its rows.
        block: number of the weight's block, of those that hold a tuned weight. Weights outside of
            blocks (embeddings, norms) share the last number.
        blocks: how many numbers there are.
        shape: rows and columns of its coordinates: its elements, ``[rows, groups]`` where each
            scale moves, ``[1, rows]`` where the scales of a row move together; None for coordinates
            that cannot be named one by one.
    """

    path: str
    weight: StoredWeight
    block: int
    blocks: int
    shape: tuple[int, int] | None


class ChoosesSupports(Protocol):
    """A `zolit.strategies.Mask`."""

    def watch(self, model: nn.Module, load_tokenizer: Callable[[], Any]) -> None:
        """Run the model as it was read, where the choice depends on more than its weights."""

    def part(self, model: nn.Module) -> str | None:
        """Path of the module of which `tune` names what moves; None for the whole model."""

    def expect(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Know the weights that `choose` will be asked about one by one, by name."""

    def look_at(self, model: nn.Module) -> None:
        """See the model before its weights are asked for."""

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        """Which entries of one weight move, where they are kept as floats beside its codes."""

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        """Which coordinates of each weight move."""
