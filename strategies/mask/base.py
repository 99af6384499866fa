"""The base classes of masks, which choose the coordinates of each weight that move."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from torch import nn

from zolit.arguments import Checked
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.parts import Candidate
from zolit.strategies.perturber.base import Perturber
from zolit.supports import Support


class Mask(Checked, ABC):
    """Chooses which coordinates of each weight move, in reads and updates alike.

    Attributes:
        kept: whether a run keeps the choice in its folder, so that what it was made from is not
            needed again: of a mask that reads a file. It chooses single coordinates.

    Example:
        >>> from zolit.supports import ALL, Hashed
        >>> class Attention(Mask):
        ...     def choose(self, path, weight, block, blocks):
        ...         return ALL if "attn" in path else Hashed(0.1, key=block)
        >>> Attention().choose("model.layers.0.mlp.up_proj.weight", None, 0, 1).density
        0.1
    """

    kept: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """The mask, with those of its options that decide what it chooses of a model."""
        return type(self).__name__

    def files(self) -> dict[str, str]:
        """The files that the choice depends on, by the argument that names them: a run records
        their digests."""
        return {}

    def read_files(self) -> None:
        """Read from its files whether they will do, before a model is loaded.

        Raises:
            UserError: naming the file.
        """

    def check(self, perturber: Perturber) -> None:
        """Refuse a perturber that this mask cannot be used with, before a model is loaded.

        By default perturbers are refused that keep single entries as floats. A mask that can choose
        these overrides this method.

        Raises:
            UserError: naming both parts and what to use instead.
        """
        if perturber.overlays:
            raise UserError(
                f"perturber {type(perturber).__name__} moves entries that a mask chooses one by "
                f"one, got mask {type(self).__name__}; use Sensitive or Magnitude with it"
            )

    def watch(self, model: nn.Module, load_tokenizer: Callable[[], Any]) -> None:
        """Run the model, for masks whose choice depends on more than its weights.

        Called when the model has been read, before an adapter is added and before a weight moves.

        Args:
            model: of transformers: plain, or with stored weights.
            load_tokenizer: returns the tokenizer of the model.

        Raises:
            UserError: if the choice cannot be made.
        """

    def part(self, model: nn.Module) -> str | None:
        """The path of the module in which weights move that `tune` names; None for all modules.

        Nothing outside of it has directions, or is saved in checkpoints. Called after `watch`, and
        also before it, with the model on the meta device.

        Raises:
            UserError: if the model has no such module.
        """
        return None

    @property
    def settled(self) -> Mapping[str, int | float | str]:
        """What was found for arguments that were left open, for the run's config.yaml.

        A resumed run and a replay are made with these.
        """
        return {}

    def expect(self, shapes: Mapping[str, tuple[int, int]]) -> None:
        """Learn which weights `choose` will be asked about, before it is asked about the first.

        Called under `SparsePerturber`, where each weight is quantized before the next is read.

        Args:
            shapes: rows and columns by the parameter's name, in the order of the model.
        """

    def look_at(self, model: nn.Module) -> None:
        """See the model before any weight is asked about. Called once, before anything has moved.

        Args:
            model: with stored weights, on the meta device for ``zolit estimate``.

        Raises:
            UserError: if the mask was made for another model.
        """

    @abstractmethod
    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        """Which coordinates of one weight move. Called once, before the first step.

        A replay and a resumed run call it again with the weights that the run started from, and
        must get the same answer.

        Args:
            path: name of the parameter in the model.
            weight: as it is stored.
            block: number of the weight's block; see `Candidate`.
            blocks: how many such numbers there are.
        """

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        """`choose` for every weight that moves. A mask that compares weights overrides it.

        Args:
            candidates: in the order of the model.

        Returns:
            The support of each.
        """
        return [self.choose(one.path, one.weight, one.block, one.blocks) for one in candidates]


class ElementMask(Mask):
    """A mask that chooses single coordinates, which directions of low rank do not have.

    Example:
        >>> import torch
        >>> from zolit.formats.dense import DenseWeight
        >>> from zolit.supports import Bits
        >>> class Positive(ElementMask):
        ...     def choose(self, path, weight, block, blocks):
        ...         return Bits.of(weight.decoded(slice(0, weight.rows)) > 0)
        >>> Positive().choose("w", DenseWeight(torch.tensor([[1.0, -2.0]])), 0, 1).density
        0.5
    """

    def check(self, perturber: Perturber) -> None:
        if not perturber.single_coordinates:
            raise UserError(
                f"mask {type(self).__name__} leaves single coordinates out, which a direction of "
                f"low rank cannot, got perturber {type(perturber).__name__}; use NoMask with it, "
                "or CodePerturber or ScalePerturber where weights are quantized and "
                "DensePerturber where they are not"
            )
