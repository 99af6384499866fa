"""How losses become projected gradients."""

from zolit.strategies.estimator.base import Estimate, Estimator
from zolit.strategies.estimator.two_point import TwoPoint

__all__ = ["Estimate", "Estimator", "TwoPoint"]
