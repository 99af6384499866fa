"""The figures of an evaluation over one or several loaders."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zolit.evaluations import Evaluation


def figures_of(running: Mapping[int, Evaluation], loaders: Any) -> dict[str, Tensor]:
    """The mean of each figure over the loaders; of several also ``figure/loader`` of each.

    Args:
        running: the evaluation of each loader, by its number, with all of its batches.
        loaders: of the trainer. Of a dict of loaders their names are used, else their numbers.
    """
    names = list(loaders) if isinstance(loaders, dict) else [str(one) for one in running]
    each = {names[one]: kept.figures() for one, kept in running.items()}
    first, *others = each.values()
    if not others:
        return first
    found = {
        f"{name}/{loader}": value for loader, its in each.items() for name, value in its.items()
    }
    means = {name: torch.stack([one[name] for one in each.values()]).mean() for name in first}
    return {**found, **means}
