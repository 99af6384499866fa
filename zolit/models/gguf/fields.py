"""Reads the metadata of a GGUF file that many models share: sizes, heads, positions.

The functions return options of transformers' configuration, or single numbers for them.
"""

import math
from typing import Any

from zolit.models.gguf.positions import rotary
from zolit.models.gguf.stated import Stated

Options = dict[str, Any]
"""Options of a configuration of transformers, by name."""

_CLOSE = 1e-5


def read_sizes(stated: Stated) -> Options:
    """Context, layers and widths."""
    return {
        "max_position_embeddings": stated.count("context_length"),
        "num_hidden_layers": stated.count("block_count"),
        "hidden_size": stated.count("embedding_length"),
        "intermediate_size": stated.count("feed_forward_length"),
    }


def read_heads(stated: Stated, own_width: bool) -> tuple[Options, int]:
    """Heads of attention, and the width of one.

    Args:
        stated: the metadata.
        own_width: whether the configuration has an option for the width of a head. Without it the
            heads share the width of the model, and another width is refused.
    """
    heads = stated.count("attention.head_count")
    usual = stated.count("embedding_length") // heads
    width = stated.count("attention.key_length", usual)
    stated.expect("attention.value_length", lambda one: one == width, f"{width}, as of keys")
    if not own_width and width != usual:
        raise stated.mistaken("attention.key_length", width, f"{usual}, the width by the heads")
    found = {
        "num_attention_heads": heads,
        "num_key_value_heads": stated.count("attention.head_count_kv", heads),
    }
    return found | ({"head_dim": width} if own_width else {}), width


def check_attention_scale(stated: Stated, scale: float) -> None:
    """Refuse another factor of attention than the model's own; 0 is "not set"."""
    stated.expect(
        "attention.scale",
        lambda one: one == 0 or math.isclose(one, scale, rel_tol=_CLOSE),
        f"{scale:.6g}, by which models of this type multiply",
    )


def read_rotation(stated: Stated, width: int, partly: bool = False) -> Options:
    """How positions rotate queries and keys.

    Args:
        stated: the metadata.
        width: of a head.
        partly: whether a model of this type may rotate some dimensions of a head alone.
    """
    dims = stated.count("rope.dimension_count", width)
    if dims != width and not (partly and dims < width):
        raise stated.mistaken("rope.dimension_count", dims, f"{width}, all of a head")
    context = stated.count("context_length")
    return {"rope_parameters": rotary(stated, dims, width, context)}


def rms_epsilon(stated: Stated) -> float:
    """The number that a root-mean-square norm adds to the mean square."""
    return float(stated.number("attention.layer_norm_rms_epsilon"))


def norm_epsilon(stated: Stated) -> float:
    """The number that a layer norm adds to the variance."""
    return float(stated.number("attention.layer_norm_epsilon"))


def read_decoder(stated: Stated) -> Options:
    """The options that Llama and its kin share."""
    heads, width = read_heads(stated, own_width=True)
    check_attention_scale(stated, width**-0.5)
    rotation = read_rotation(stated, width)
    return read_sizes(stated) | heads | rotation | {"rms_norm_eps": rms_epsilon(stated)}


def attention_bias(stated: Stated) -> Options:
    """Whether the layers of attention have biases, as the tensors of the file say."""
    return {
        "attention_bias": stated.has(*(f"attn_{one}.bias" for one in ("q", "k", "v", "output")))
    }


def mlp_bias(stated: Stated) -> Options:
    """Whether the feed-forward layers have biases, as the tensors of the file say."""
    return {"mlp_bias": stated.has(*(f"ffn_{one}.bias" for one in ("gate", "up", "down")))}


def read_experts(stated: Stated) -> Options:
    """Number and width of the experts of a mixture."""
    used = stated.count("expert_used_count")
    usual = stated.count("feed_forward_length") // used
    return {
        "num_experts": stated.count("expert_count"),
        "num_experts_per_tok": used,
        "moe_intermediate_size": stated.count("expert_feed_forward_length", usual),
    }
