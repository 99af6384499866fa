"""A fixed random subset of the coordinates moves."""

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import fold
from zolit.strategies.mask.base import ElementMask
from zolit.supports import Hashed, Support


class RandomMask(ElementMask):
    """Moves a random subset, fixed for the run and stored nowhere: membership is a hash.

    The control experiment for masks that choose (SensZOQ arXiv 2406.02913 compares with it).

    Args:
        density: fraction of coordinates that move, in (0, 1].
        seed: chooses the subset.

    Raises:
        UserError: if ``density`` is out of range.

    Example:
        >>> RandomMask(0.25).choose("model.layers.0.mlp.up_proj.weight", None, 0, 1).density
        0.25
    """

    def __init__(self, density: float, seed: int = 0) -> None:
        if not 0 < density <= 1:
            raise UserError(f"density must be in (0, 1], got {density}; try 0.01")
        self.density = density
        self.seed = seed

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return Hashed(self.density, fold(self.seed, 0))
