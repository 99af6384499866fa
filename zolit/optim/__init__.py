"""Optimizers that step on a `ProjectedGradient`: one rule a file."""

from zolit.optim.base import OpenRate, StepsAlongDirections, check_rate
from zolit.optim.sgd import ZOSGD
from zolit.optim.sign import ZOSignSGD

__all__ = ["ZOSGD", "OpenRate", "StepsAlongDirections", "ZOSignSGD", "check_rate"]
