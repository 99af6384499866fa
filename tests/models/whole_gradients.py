"""Scores by autograd on a whole model in float64: what a sweep back must find."""

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zolit.calibration.text import Window
from zolit.models.matrices import as_matrix


@torch.enable_grad()
def whole_scores(
    model: nn.Module,
    windows: list[Window],
    method: str,
    paths: Iterable[str] | None = None,
    transposed: bool = False,
    dtype: torch.dtype = torch.float64,
) -> dict[str, Tensor]:
    """Scores of weights, ``[rows, columns]`` by name.

    Args:
        model: with plain parameters.
        windows: of the losses.
        method: ``fisher`` or ``mean_grad_sq``.
        paths: names of the weights; None for the linear layers in blocks, by their names.
        transposed: whether these lie the other way round.
        dtype: to compute in; XGLM's masks know no float64.
    """
    copy = deepcopy(model).to(dtype)
    if any(".experts." in name for name, _ in copy.named_parameters()):
        copy.set_experts_implementation("eager")
    outside = ("lm_head", "transformer.w", "model.embed", "model.decoder.embed")
    weights = {
        name: one.requires_grad_()
        for name, one in copy.named_parameters()
        if (name in paths if paths else one.dim() > 1 and not name.startswith(outside))
    }
    sums = {name: torch.zeros_like(one) for name, one in weights.items()}
    for window in windows:
        logits = copy(input_ids=window.ids.unsqueeze(0), use_cache=False).logits[0]
        loss = F.cross_entropy(logits[window.start - 1 : -1], window.ids[window.start :])
        found = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
        for name, one in zip(weights, found, strict=True):
            sums[name] += one.square() if method == "fisher" else one
    return {
        name: as_matrix(one if method == "fisher" else one.square(), True, transposed).detach()
        for name, one in sums.items()
    }
