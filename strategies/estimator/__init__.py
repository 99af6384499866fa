"""Estimators: how losses become projected gradients."""

from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.strategies.estimator.clipped_two_point import ClippedTwoPoint
from zolit.strategies.estimator.gauss_newton import GaussNewton
from zolit.strategies.estimator.one_sided import OneSided
from zolit.strategies.estimator.svrg import SVRG
from zolit.strategies.estimator.two_point import TwoPoint

__all__ = [
    "SVRG",
    "ClippedTwoPoint",
    "Estimate",
    "Estimator",
    "GaussNewton",
    "Losses",
    "OneSided",
    "TwoPoint",
]
