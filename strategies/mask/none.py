"""Move every coordinate."""

from zolit.formats.base import StoredWeight
from zolit.strategies.mask.base import Mask
from zolit.supports import ALL, Support


class NoMask(Mask):
    """Moves every coordinate.

    Example:
        >>> NoMask().choose("model.layers.0.mlp.up_proj.weight", None, 0, 1).density
        1.0
    """

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return ALL
