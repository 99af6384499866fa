"""Reconstructions: pruning a block so that it still gives what it gave dense."""

from zolit.strategies.reconstruction.base import Reconstruction
from zolit.strategies.reconstruction.block_reconstruction import BlockReconstruction
from zolit.strategies.reconstruction.forward_reconstruction import ForwardReconstruction
from zolit.strategies.reconstruction.regional_optimization import RegionalOptimization

__all__ = [
    "BlockReconstruction",
    "ForwardReconstruction",
    "Reconstruction",
    "RegionalOptimization",
]
