"""The perplexity of a text that has nothing to do with the task."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zolit.evaluations.perplexity import window_losses
from zolit.objectives.language_modeling import text_rows


@torch.no_grad()
def text_perplexity(model: nn.Module, windows: Sequence[Tensor]) -> float:
    """The exponential of the mean next-token loss over some windows of a text.

    The first token of a window is not predicted. Windows run one by one, so that no padding and no
    neighbour has an influence, and the logits of one alone are in memory.

    Args:
        model: causal, in eval mode.
        windows: token ids, ``[T]`` int64 each with T of at least 2, on the model's device.

    Returns:
        From 1, where every token is certain, upwards; infinite or NaN as the losses are.
    """
    total, count = 0.0, 0
    for window in windows:
        ids = window.view(1, -1)
        counted = torch.tensor([len(window) - 1], device=window.device)
        losses, counts = window_losses(model, text_rows(ids, torch.ones_like(ids), counted))
        total, count = total + float(losses.sum()), count + int(counts.sum())
    mean = total / count
    return math.exp(mean) if mean < 700 else math.inf
