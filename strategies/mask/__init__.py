"""Which subset of the coordinates moves."""

from zolit.strategies.mask.base import Mask
from zolit.strategies.mask.none import NoMask
from zolit.strategies.mask.random import RandomMask
from zolit.strategies.mask.random_blocks import RandomBlocks

__all__ = ["Mask", "NoMask", "RandomBlocks", "RandomMask"]
