"""Estimators: how losses become projected gradients."""

from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.strategies.estimator.clipped_two_point import ClippedTwoPoint
from zolit.strategies.estimator.gauss_newton import GaussNewton
from zolit.strategies.estimator.layer_lengths import LayerLengths
from zolit.strategies.estimator.one_sided import OneSided
from zolit.strategies.estimator.per_example import PerExample
from zolit.strategies.estimator.second_difference import SecondDifference
from zolit.strategies.estimator.svrg import SVRG
from zolit.strategies.estimator.two_point import TwoPoint

__all__ = [
    "SVRG",
    "ClippedTwoPoint",
    "Estimate",
    "Estimator",
    "GaussNewton",
    "LayerLengths",
    "Losses",
    "OneSided",
    "PerExample",
    "SecondDifference",
    "TwoPoint",
]
