"""Every coordinate moves."""

from zolit.strategies.mask.base import Mask

from zolit.noise import Direction


class NoMask(Mask):
    """Leaves directions as they are."""

    def restrict(self, direction: Direction) -> Direction:
        return direction
