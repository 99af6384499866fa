"""Pruners: which entries of a layer's weight become zero, and what the others become."""

from zolit.strategies.pruner.alps import ALPS
from zolit.strategies.pruner.base import PrunedWeight, Pruner, ScoringPruner
from zolit.strategies.pruner.magnitude import MagnitudePruner
from zolit.strategies.pruner.pattern import NofM, Pattern, Ratio
from zolit.strategies.pruner.regional_gradients import RegionalGradients
from zolit.strategies.pruner.sparse_gpt import SparseGPT
from zolit.strategies.pruner.wanda import Wanda

__all__ = [
    "ALPS",
    "MagnitudePruner",
    "NofM",
    "Pattern",
    "PrunedWeight",
    "Pruner",
    "Ratio",
    "RegionalGradients",
    "ScoringPruner",
    "SparseGPT",
    "Wanda",
]
