"""Every coordinate moves."""

from zolit.noise import Direction
from zolit.strategies.mask.base import Mask


class NoMask(Mask):
    """Leaves directions as they are."""

    def restrict(self, direction: Direction) -> Direction:
        return direction
