"""Masks: which of the coordinates move."""

from zolit.models.parts import Candidate
from zolit.strategies.mask.base import ElementMask, Mask
from zolit.strategies.mask.dominant_block import DominantBlock
from zolit.strategies.mask.from_file import FromFile
from zolit.strategies.mask.magnitude import Magnitude
from zolit.strategies.mask.none import NoMask
from zolit.strategies.mask.outliers import Outliers
from zolit.strategies.mask.pruned import Pruned
from zolit.strategies.mask.random import RandomMask
from zolit.strategies.mask.random_blocks import RandomBlocks
from zolit.strategies.mask.scored import ScoredMask
from zolit.strategies.mask.sensitive import Sensitive
from zolit.strategies.mask.small_weights import SmallWeights

__all__ = [
    "Candidate",
    "DominantBlock",
    "ElementMask",
    "FromFile",
    "Magnitude",
    "Mask",
    "NoMask",
    "Outliers",
    "Pruned",
    "RandomBlocks",
    "RandomMask",
    "ScoredMask",
    "Sensitive",
    "SmallWeights",
]
