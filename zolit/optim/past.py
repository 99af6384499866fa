"""The directions of earlier steps, as keys and numbers: what momentum remembers of them.

A direction is a function of its key, so that a sum of earlier estimates needs no tensor of the
weights' size: it is made again from the keys. Terms whose factor has decayed below a tolerance are
left out.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zolit.errors import UserError

NAME = "past"
"""Under this name an optimizer's ``state`` has the past."""

_DTYPES = {"keys": torch.int64, "factors": torch.float32, "ages": torch.int64}


def check_decay(name: str, decay: float) -> None:
    """Refuse a factor of the past that is not in [0, 1).

    Raises:
        UserError: naming it.
    """
    if not 0 <= decay < 1:
        raise UserError(f"{name} must be in [0, 1), got {decay}; try 0.9")


def remembered(decay: float, tolerance: float) -> int:
    """Steps that a decaying sum counts, the newest one included.

    The terms that are left out add up to ``decay**steps`` of the weight of all, at most
    ``tolerance``.

    Args:
        decay: factor of a term at each step, in [0, 1).
        tolerance: in (0, 1).

    Example:
        >>> remembered(0.9, 0.01), remembered(0.9, 0.1), remembered(0.0, 0.01)
        (44, 22, 1)
    """
    if not 0 < tolerance < 1:
        raise UserError(f"tolerance must be in (0, 1), got {tolerance}; try 0.01")
    if decay == 0:
        return 1
    return max(1, math.ceil(math.log(tolerance) / math.log(decay)))


def nothing() -> dict[str, Tensor]:
    """The past before the first step: empty ``keys``, ``factors`` and ``ages``."""
    return {name: torch.empty(0, dtype=dtype) for name, dtype in _DTYPES.items()}


def after_step(
    past: Mapping[str, Tensor], keys: Tensor, factors: Tensor, steps: int
) -> dict[str, Tensor]:
    """The past with the directions of one more step at its end, and the oldest ones left out.

    Args:
        past: before the step.
        keys: ``[Q]`` int64, of the step's directions.
        factors: ``[Q]`` float32, how far a plain step would go along each.
        steps: that are kept, the new one included (`remembered`).

    Returns:
        ``keys`` ``[D]`` int64, ``factors`` ``[D]`` float32, and ``ages`` ``[D]`` int64 in steps,
        on the CPU.
    """
    before = {name: one.cpu() for name, one in past.items()}  # Lightning moves states to a GPU
    ages = before["ages"] + 1
    kept = ages < steps
    return {
        "keys": torch.cat((before["keys"][kept], keys.cpu())),
        "factors": torch.cat((before["factors"][kept], factors.float().cpu())),
        "ages": torch.cat((ages[kept], torch.zeros(len(keys), dtype=torch.int64))),
    }


def decayed(past: Mapping[str, Tensor], decay: float) -> Tensor:
    """``factors * decay**ages``, ``[D]`` float64."""
    return past["factors"].double() * torch.tensor(decay, dtype=torch.float64) ** past["ages"]


def check_past(found: Any) -> dict[str, Tensor]:
    """The past that a checkpoint holds.

    Raises:
        UserError: if it is none.
    """
    sound = isinstance(found, dict) and all(
        isinstance(found.get(name), Tensor)
        and found[name].dtype == dtype
        and found[name].dim() == 1
        and len(found[name]) == len(found["keys"])
        for name, dtype in _DTYPES.items()
    )
    if not sound:
        raise UserError(
            "ckpt_path: the checkpoint does not hold the earlier directions that this optimizer "
            "goes on along; use the config.yaml that stands beside the checkpoint"
        )
    return {name: found[name].cpu() for name in _DTYPES}
