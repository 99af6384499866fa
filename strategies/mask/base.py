"""Which subset of the coordinates moves."""

from abc import ABC, abstractmethod

from zolit.formats.base import StoredWeight
from zolit.strategies.perturber.base import Perturber
from zolit.supports import Support


class Mask(ABC):
    """Chooses which coordinates of each weight move, in reads and updates alike.

    Example:
        >>> from zolit.supports import ALL, Hashed
        >>> class Attention(Mask):
        ...     def choose(self, path, weight, block, blocks):
        ...         return ALL if "attn" in path else Hashed(0.1, key=block)
        >>> Attention().choose("model.layers.0.mlp.up_proj.weight", None, 0, 1).density
        0.1
    """

    def check(self, perturber: Perturber) -> None:  # noqa: B027 (most masks refuse nothing)
        """Refuse a perturber whose coordinates have no such subset, before a model is loaded.

        Raises:
            UserError: naming both parts and what to use instead.
        """

    @abstractmethod
    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        """Which coordinates of one weight move; asked once, before the first step.

        A replay and a resumed run ask again and must get the same answer.

        Args:
            path: name of the parameter in the model.
            weight: as it is stored; `StoredWeight.read` decodes its rows.
            block: number of the weight's block, of those that hold a tuned weight. Weights outside
                of blocks (embeddings, norms) share the last number.
            blocks: how many numbers there are.
        """
