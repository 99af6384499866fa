"""Which subset of the coordinates moves."""

from zolit.strategies.mask.base import Mask
from zolit.strategies.mask.none import NoMask
from zolit.strategies.mask.random import RandomMask

__all__ = ["Mask", "NoMask", "RandomMask"]
