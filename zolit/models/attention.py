"""Attention over short sequences as two batched products.

torch's fused attention for the CPU is made for long sequences: over 30 tokens of a prompt it takes
more than twice as long as the products it consists of, a tenth of a step (docs/performance.md).
"""

from typing import Any

import torch
from torch import Tensor, nn

from zolit.compat import (
    AttentionInterface,
    AttentionMaskInterface,
    sdpa_attention_forward,
    sdpa_mask,
)

NAME = "zolit_short"
LONGEST = 64
"""Tokens up to which the products are faster."""


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it; `sdpa` where it is faster or the case is a rare one.

    The softmax is in float32. Heads that share keys and values are one product, without copies of
    either.

    Args:
        module: the layer that asks.
        query: ``[B, H, T, D]``.
        key: ``[B, G, S, D]``, H a multiple of G.
        value: ``[B, G, S, E]``.
        attention_mask: ``[B, 1 or H, T, S]``, true where a token is seen, or floats to be added;
            None for all tokens, or for those before where the layer is causal.
        dropout: of the weights.
        scaling: of the scores; None for ``D ** -0.5``.
        is_causal: overrides the layer's own.

    Returns:
        ``[B, T, H, E]`` and None in place of the weights.
    """
    rows, heads, length, width = query.shape
    causal = bool(getattr(module, "is_causal", True)) if is_causal is None else is_causal
    unmasked = attention_mask is None and causal and length > 1
    rare = ("position_bias", "cache", "softcap")
    if (
        length > LONGEST
        or query.device.type not in ("cpu", "meta")
        or dropout > 0
        or (unmasked and key.shape[2] != length)
        or any(options.get(name) is not None for name in rare)
    ):
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, is_causal, **options
        )
        return out
    groups = key.shape[1]
    together = query.reshape(rows, groups, heads // groups * length, width)
    scores = (together @ key.mT).view(rows, groups, heads // groups, length, -1).float()
    scores *= width**-0.5 if scaling is None else scaling
    if unmasked:
        attention_mask = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        attention_mask = attention_mask.expand(1, 1, length, length)
    if attention_mask is not None:
        by_group = (groups, heads // groups) if attention_mask.shape[1] > 1 else (1, 1)
        mask = attention_mask.unflatten(1, by_group)
        if mask.dtype == torch.bool:
            # Not minus infinity: a row of padding sees nothing, and must not become NaN.
            scores.masked_fill_(~mask, torch.finfo(scores.dtype).min)
        else:
            scores += mask
    weights = scores.softmax(dim=-1).to(value.dtype)
    mixed = weights.view(rows, groups, heads // groups * length, -1) @ value
    return mixed.view(rows, heads, length, -1).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use_short_attention(model: Any) -> None:
    """Let a transformers model that attends by `sdpa` attend by `attention`."""
    changeable = getattr(model, "_can_set_attn_implementation", None)
    if changeable is None or not changeable():
        return
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
