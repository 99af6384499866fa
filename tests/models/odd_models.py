"""Random models whose data flows in other ways than Llama's."""

from typing import Any

import torch
import transformers as hf
from tiny_models import VOCAB
from torch import nn

from zolit.objectives.prompt_batch import PromptBatch

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ENCODER = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 70}
DECODER = {"d_model": 32, "decoder_layers": 2, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
LLAMA = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2}
FALCON = {**SIZES, "num_kv_heads": 4, "new_decoder_architecture": False}
DEBERTA = {
    **ENCODER,
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_buckets": 16,
    "share_att_key": True,
}
MPT = {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 4}
ODD: dict[str, tuple[type[nn.Module], type, dict[str, Any]]] = {
    "bart": (hf.BartForCausalLM, hf.BartConfig, DECODER),
    "bert": (hf.BertForMaskedLM, hf.BertConfig, ENCODER),
    "bloom": (hf.BloomForCausalLM, hf.BloomConfig, {"hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "deberta": (hf.DebertaV2ForMaskedLM, hf.DebertaV2Config, DEBERTA),
    "falcon": (hf.FalconForCausalLM, hf.FalconConfig, FALCON),
    "falcon_alibi": (hf.FalconForCausalLM, hf.FalconConfig, {**FALCON, "alibi": True}),
    "gpt_neox": (hf.GPTNeoXForCausalLM, hf.GPTNeoXConfig, ENCODER),
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, LLAMA),
    "longformer": (
        hf.LongformerForMaskedLM,
        hf.LongformerConfig,
        {**ENCODER, "attention_window": [4, 4]},
    ),
    "mamba": (hf.MambaForCausalLM, hf.MambaConfig, {"hidden_size": 32, "num_hidden_layers": 2}),
    "mixtral": (hf.MixtralForCausalLM, hf.MixtralConfig, {**LLAMA, "num_local_experts": 4}),
    "mpt": (hf.MptForCausalLM, hf.MptConfig, MPT),
    "xlm": (hf.XLMWithLMHeadModel, hf.XLMConfig, XLM),
    "xlnet": (
        hf.XLNetLMHeadModel,
        hf.XLNetConfig,
        {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    ),
}
MASKED = ("bert", "deberta", "longformer", "xlm", "xlnet")


def odd(name: str) -> nn.Module:
    """A model with weights larger than at initialization, biases and norms included."""
    model_class, config_class, options = ODD[name]
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    torch.manual_seed(0)
    model = model_class(config_class(**{"vocab_size": VOCAB, **tokens, **options}))
    for weight in model.eval().requires_grad_(False).parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return model


def rows(name: str, count: int = 4, tokens: int = 8) -> PromptBatch:
    """Prompts of one-token answers, padded but the first; left for a causal model."""
    ids = 5 + torch.arange(count * tokens).view(count, tokens) * 7 % (VOCAB - 5)
    short = 2 * torch.arange(count).clamp(max=tokens // 2 - 1).unsqueeze(1)
    places = torch.arange(tokens)
    mask = places < tokens - short if name in MASKED else places >= short
    ids = ids.masked_fill(~mask, 1)
    last = tokens - 1 - short if name in MASKED else torch.full((count, 1), tokens - 1)
    labels = torch.arange(count) % 3
    return PromptBatch(ids, mask.long(), last, torch.tensor([[30], [31], [32]]), labels)
