"""Perturbers: which coordinates of stored weights move, and along which directions."""

from zolit.strategies.perturber.base import Perturber
from zolit.strategies.perturber.code import CodePerturber
from zolit.strategies.perturber.dense import DensePerturber
from zolit.strategies.perturber.low_rank import LowRankPerturber
from zolit.strategies.perturber.scale import ScalePerturber
from zolit.strategies.perturber.sparse import SparsePerturber

__all__ = [
    "CodePerturber",
    "DensePerturber",
    "LowRankPerturber",
    "Perturber",
    "ScalePerturber",
    "SparsePerturber",
]
