"""Scores by autograd on a whole model in float64: what a sweep back must find."""

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zolit.calibration.text import Window
from zolit.models.prepare import as_matrix


def whole_scores(
    model: nn.Module, windows: list[Window], method: str, transposed: bool = False
) -> dict[str, Tensor]:
    """Scores of the linear layers in a model's blocks, ``[rows, columns]`` float64 by name."""
    copy = deepcopy(model).double()
    if hasattr(copy.config, "num_local_experts") or hasattr(copy.config, "num_experts"):
        copy.set_experts_implementation("eager")
    weights = {
        name: one.requires_grad_()
        for name, one in copy.named_parameters()
        if one.dim() > 1
        and ".embed" not in name
        and not name.startswith(("lm_head", "transformer.w"))
    }
    sums = {name: torch.zeros_like(one) for name, one in weights.items()}
    for window in windows:
        logits = copy(input_ids=window.ids.unsqueeze(0)).logits[0]
        loss = F.cross_entropy(logits[window.start - 1 : -1], window.ids[window.start :])
        for (name, _), found in zip(
            weights.items(), torch.autograd.grad(loss, list(weights.values())), strict=True
        ):
            sums[name] += found.square() if method == "fisher" else found
    return {
        name: as_matrix(one if method == "fisher" else one.square(), True, transposed).detach()
        for name, one in sums.items()
    }
