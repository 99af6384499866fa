"""The families of models that are read from GGUF files: from metadata to a configuration.

Each function reads every field that its model computes with. For a field that the file leaves out
it takes llama.cpp's default, which often differs from that of transformers' configuration.
"""

from collections.abc import Callable

from zolit.models.gguf.fields import (
    Options,
    attention_bias,
    check_attention_scale,
    mlp_bias,
    norm_epsilon,
    read_decoder,
    read_experts,
    read_heads,
    read_rotation,
    read_sizes,
    rms_epsilon,
)
from zolit.models.gguf.stated import Stated


def llama(stated: Stated) -> Options:
    return read_decoder(stated) | attention_bias(stated) | mlp_bias(stated)


def qwen2(stated: Stated) -> Options:
    return read_decoder(stated)


def qwen3(stated: Stated) -> Options:
    return read_decoder(stated) | attention_bias(stated)


def qwen2_moe(stated: Stated) -> Options:
    return (
        read_decoder(stated)
        | read_experts(stated)
        | {
            "shared_expert_intermediate_size": stated.count(
                "expert_shared_feed_forward_length", stated.count("feed_forward_length")
            ),
            "qkv_bias": stated.has("attn_q.bias"),
            "norm_topk_prob": False,
        }
    )


def qwen3_moe(stated: Stated) -> Options:
    normed = {"norm_topk_prob": True}
    return read_decoder(stated) | read_experts(stated) | attention_bias(stated) | normed


def phi3(stated: Stated) -> Options:
    heads, width = read_heads(stated, own_width=False)
    check_attention_scale(stated, width**-0.5)
    context = stated.count("context_length")
    return (
        read_sizes(stated)
        | heads
        | read_rotation(stated, width, partly=True)
        | {
            "rms_norm_eps": rms_epsilon(stated),
            "sliding_window": int(stated.number("attention.sliding_window", 0)) or None,
            "original_max_position_embeddings": stated.count(
                "rope.scaling.original_context_length", context
            ),
        }
    )


def _gemma(stated: Stated, layers_of_27b: int) -> tuple[Options, int]:
    heads, width = read_heads(stated, own_width=True)
    # llama.cpp knows the largest model of each generation by its number of layers.
    largest = stated.count("block_count") == layers_of_27b
    query = stated.count("embedding_length") // heads["num_attention_heads"] if largest else width
    check_attention_scale(stated, query**-0.5)
    sizes = read_sizes(stated) | heads | attention_bias(stated)
    return sizes | {"rms_norm_eps": rms_epsilon(stated), "query_pre_attn_scalar": query}, width


def gemma2(stated: Stated) -> Options:
    sizes, width = _gemma(stated, 46)
    return (
        sizes
        | read_rotation(stated, width)
        | {
            "sliding_window": stated.count("attention.sliding_window", 4096),
            "attn_logit_softcapping": float(stated.number("attn_logit_softcapping", 50)) or None,
            "final_logit_softcapping": float(stated.number("final_logit_softcapping", 30)) or None,
        }
    )


def gemma3(stated: Stated) -> Options:
    sizes, width = _gemma(stated, 62)
    everywhere = read_rotation(stated, width)["rope_parameters"]
    near = float(stated.number("rope.freq_base_swa", 10000.0))
    layers = range(1, sizes["num_hidden_layers"] + 1)
    near_only = [layer % 6 != 0 for layer in layers]
    stated.expect(
        "attention.sliding_window_pattern", lambda one: one in (6, near_only), "every sixth layer"
    )
    return sizes | {
        "rope_parameters": {
            "full_attention": everywhere,
            "sliding_attention": {"rope_type": "default", "rope_theta": near},
        },
        "sliding_window": stated.count("attention.sliding_window"),
        "final_logit_softcapping": float(stated.number("final_logit_softcapping", 0)) or None,
    }


def gpt2(stated: Stated) -> Options:
    width = stated.count("embedding_length")
    heads = stated.count("attention.head_count")
    stated.expect("attention.head_count_kv", lambda one: one == heads, f"{heads}, as of queries")
    return {
        "n_positions": stated.count("context_length"),
        "n_layer": stated.count("block_count"),
        "n_embd": width,
        "n_inner": stated.count("feed_forward_length", 4 * width),
        "n_head": heads,
        "layer_norm_epsilon": norm_epsilon(stated),
    }


def starcoder2(stated: Stated) -> Options:
    heads, width = read_heads(stated, own_width=False)
    bias = {"use_bias": stated.has("attn_q.bias", "ffn_up.bias")}
    norm = {"norm_epsilon": norm_epsilon(stated), "sliding_window": None}
    return read_sizes(stated) | heads | read_rotation(stated, width) | bias | norm


def stablelm(stated: Stated) -> Options:
    heads, width = read_heads(stated, own_width=False)
    parallel = not stated.has("ffn_norm.weight")
    stated.expect("use_parallel_residual", lambda one: one == parallel, f"{parallel}, by its norms")
    return (
        read_sizes(stated)
        | heads
        | read_rotation(stated, width, partly=True)
        | {
            "layer_norm_eps": norm_epsilon(stated),
            "use_qkv_bias": stated.has("attn_q.bias", "attn_k.bias", "attn_v.bias"),
            "use_parallel_residual": parallel,
        }
    )


def nemotron(stated: Stated) -> Options:
    heads, width = read_heads(stated, own_width=True)
    biases = attention_bias(stated) | mlp_bias(stated)
    rotation = read_rotation(stated, width, partly=True)
    return read_sizes(stated) | heads | rotation | biases | {"norm_eps": norm_epsilon(stated)}


def falcon(stated: Stated) -> Options:
    """The layout of Falcon 7B. Models with more key heads are refused: their rows are reordered."""
    heads, width = read_heads(stated, own_width=False)
    if heads["num_key_value_heads"] != 1 or stated.has("attn_norm_2.weight"):
        raise stated.mistaken(
            "attention.head_count_kv", heads["num_key_value_heads"], "1, as Falcon 7B has"
        )
    sizes = read_sizes(stated)
    return (
        {"ffn_hidden_size": sizes.pop("intermediate_size")}
        | sizes
        | read_rotation(stated, width)
        | {
            "num_attention_heads": heads["num_attention_heads"],
            "layer_norm_epsilon": norm_epsilon(stated),
            "multi_query": True,
            "new_decoder_architecture": False,
            "parallel_attn": True,
            "alibi": False,
            "bias": stated.has("attn_qkv.bias", "ffn_up.bias"),
        }
    )


def bloom(stated: Stated) -> Options:
    width, heads = stated.count("embedding_length"), stated.count("attention.head_count")
    stated.expect("attention.head_count_kv", lambda one: one == heads, f"{heads}, as of queries")
    stated.expect("feed_forward_length", lambda one: one == 4 * width, f"{4 * width}")
    stated.expect("attention.max_alibi_bias", lambda one: one == 8, "8")
    stated.value("context_length", None)  # there is no table of positions
    return {
        "n_layer": stated.count("block_count"),
        "hidden_size": width,
        "n_head": heads,
        "layer_norm_epsilon": norm_epsilon(stated),
    }


def mamba(stated: Stated) -> Options:
    width = stated.count("embedding_length")
    stated.value("context_length", None)  # there is no table of positions
    for name in ("feed_forward_length", "attention.head_count", "attention.head_count_kv"):
        stated.expect(name, lambda one: one == 0, "0, as the model has none")
    stated.expect("ssm.inner_size", lambda one: one % width == 0, f"a multiple of {width}")
    stated.expect("ssm.dt_b_c_rms", lambda one: not one, "false")
    return {
        "hidden_size": width,
        "num_hidden_layers": stated.count("block_count"),
        "layer_norm_epsilon": rms_epsilon(stated),
        "conv_kernel": stated.count("ssm.conv_kernel"),
        "state_size": stated.count("ssm.state_size"),
        "time_step_rank": stated.count("ssm.time_step_rank"),
        "expand": stated.count("ssm.inner_size") // width,
        "use_conv_bias": stated.has("ssm_conv1d.bias"),
        "use_bias": stated.has("ssm_in.bias"),
    }


def lfm2(stated: Stated) -> Options:
    counts = stated.value("attention.head_count_kv")
    if not isinstance(counts, list) or {type(one) for one in counts} != {int}:
        raise stated.mistaken("attention.head_count_kv", counts, "a list with a number a layer")
    heads = stated.count("attention.head_count")
    width = stated.count("embedding_length") // heads
    return (
        read_sizes(stated)
        | read_rotation(stated, width)
        | {
            "block_auto_adjust_ff_dim": False,
            "num_attention_heads": heads,
            "num_key_value_heads": max(counts),
            "layer_types": ["full_attention" if one else "conv" for one in counts],
            "norm_eps": rms_epsilon(stated),
            "conv_L_cache": stated.count("shortconv.l_cache"),
            "conv_bias": stated.has("shortconv.in_proj.bias"),
        }
    )


FAMILIES: dict[str, tuple[str, Callable[[Stated], Options]]] = {
    "bloom": ("bloom", bloom),
    "falcon": ("falcon", falcon),
    "gemma2": ("gemma2", gemma2),
    "gemma3": ("gemma3_text", gemma3),
    "gpt2": ("gpt2", gpt2),
    "lfm2": ("lfm2", lfm2),
    "llama": ("llama", llama),
    "mamba": ("mamba", mamba),
    "nemotron": ("nemotron", nemotron),
    "phi3": ("phi3", phi3),
    "qwen2": ("qwen2", qwen2),
    "qwen2moe": ("qwen2_moe", qwen2_moe),
    "qwen3": ("qwen3", qwen3),
    "qwen3moe": ("qwen3_moe", qwen3_moe),
    "stablelm": ("stablelm", stablelm),
    "starcoder2": ("starcoder2", starcoder2),
}
"""transformers' type of model and the function that reads it, by llama.cpp's architecture."""
