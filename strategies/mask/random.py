"""Move a fixed random subset of the coordinates."""

from zolit.arguments import in_unit_range
from zolit.formats.base import StoredWeight
from zolit.noise import fold
from zolit.strategies.mask.base import ElementMask
from zolit.supports import Hashed, Support


class RandomMask(ElementMask):
    """Moves a random subset of the coordinates, the same for the whole run.

    A hash of the seed and of its number decides whether a coordinate moves, so the subset takes no
    memory. It is the control experiment for masks that choose by a criterion; SensZOQ (arXiv
    2406.02913) compares with it.

    Args:
        fraction: expected fraction of the coordinates that move, in (0, 1].
        seed: of the subset.

    Raises:
        UserError: if ``fraction`` is out of range.

    Example:
        >>> RandomMask(0.25).choose("model.layers.0.mlp.up_proj.weight", None, 0, 1).density
        0.25
    """

    def __init__(self, fraction: float, seed: int = 0) -> None:
        self.fraction = in_unit_range("fraction", fraction)
        self.seed = seed

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return Hashed(self.fraction, fold(self.seed, 0))
