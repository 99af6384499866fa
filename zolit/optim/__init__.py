"""Optimizers that step on a `ProjectedGradient`: one rule a file."""

from zolit.optim.adam import ZOAdam
from zolit.optim.base import (
    Choosing,
    OpenRate,
    Particular,
    StepParts,
    StepsAlongDirections,
    check_fitting,
    check_rate,
    open_rate_error,
)
from zolit.optim.conservative import ZOConservative
from zolit.optim.dizo import DiZO
from zolit.optim.fzoo import FZOO
from zolit.optim.hizoo import HiZOO
from zolit.optim.momentum import ZOMomentum
from zolit.optim.sgd import ZOSGD
from zolit.optim.sign import ZOSignSGD

__all__ = [
    "FZOO",
    "ZOSGD",
    "Choosing",
    "DiZO",
    "HiZOO",
    "OpenRate",
    "Particular",
    "StepParts",
    "StepsAlongDirections",
    "ZOAdam",
    "ZOConservative",
    "ZOMomentum",
    "ZOSignSGD",
    "check_fitting",
    "check_rate",
    "open_rate_error",
]
