"""Random models of every architecture, small enough to run a hundred times."""

import torch
import transformers as hf
from preparing import prepare
from torch import Tensor, nn

from zolit.kernels.dispatch import Preference
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import CodePerturber, DensePerturber, Mask, Perturber, Quantizer
from zolit.tensors.reading import Reading

VOCAB, LAYERS, PAD = 96, 2, 1
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "pad_token_id": PAD,
}
GROUPED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8}
MODELS: dict[str, tuple[type[nn.Module], type, dict]] = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, GROUPED),
    "llama_tied": (hf.LlamaForCausalLM, hf.LlamaConfig, {**GROUPED, "tie_word_embeddings": True}),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, {**GROUPED, "sliding_window": 6}),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {**GROUPED, "tie_word_embeddings": False}),
    "gemma3": (hf.Gemma3ForCausalLM, hf.Gemma3TextConfig, {**GROUPED, "sliding_window": 6}),
    "opt": (
        hf.OPTForCausalLM,
        hf.OPTConfig,
        {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 32},
    ),
    "gpt2": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {
            "vocab_size": VOCAB,
            "n_embd": 32,
            "n_layer": LAYERS,
            "n_head": 4,
            "n_positions": 32,
            "pad_token_id": PAD,
        },
    ),
    "roberta": (
        hf.RobertaForMaskedLM,
        hf.RobertaConfig,
        {**SIZES, "intermediate_size": 64, "max_position_embeddings": 40},
    ),
}

# Linear layers by hand: per block, and beside the blocks (RoBERTa's head has a dense layer).
LINEAR = {
    "llama": (7, 0),
    "llama_tied": (7, 0),
    "mistral": (7, 0),
    "qwen3": (7, 0),
    "gemma3": (7, 0),
    "opt": (6, 0),
    "gpt2": (4, 0),
    "roberta": (6, 1),
}


def tiny(name: str) -> nn.Module:
    """A model with weights larger than at initialization, biases and norms included."""
    model_class, config_class, options = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(**options)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return model


def batch(name: str) -> PromptBatch:
    """Four prompts of one-token answers; the last two rows are padded."""
    ids = 2 + torch.arange(4 * 8).view(4, 8) * 7 % (VOCAB - 2)
    mask = torch.ones_like(ids)
    masked = name == "roberta"
    for row, short in ((2, 3), (3, 5)):
        place = slice(8 - short, 8) if masked else slice(0, short)
        ids[row, place], mask[row, place] = PAD, 0
    last = mask.sum(1, keepdim=True) - 1 if masked else torch.full((4, 1), 7)
    answers = torch.tensor([[30], [31], [32]])
    return PromptBatch(ids, mask, last, answers, torch.tensor([0, 2, 1, 1]))


def logits(model: nn.Module, name: str) -> Tensor:
    one = batch(name)
    with torch.no_grad():
        return model(input_ids=one.input_ids, attention_mask=one.attention_mask).logits


def prepared(
    name: str,
    quantizer: Quantizer,
    tune: list[str] | None = None,
    perturber: Perturber | None = None,
    kernels: Preference = "reference",
    mask: Mask | None = None,
) -> tuple[nn.Module, Reading, bool]:
    """A prepared model, its reading and whether it is pairable."""
    model = tiny(name)
    one = perturber or (CodePerturber() if quantizer.quantized else DensePerturber())
    reading = Reading(one.direction(), kernels)
    pairable = prepare(model, quantizer, one, reading, tune or ["linear"], mask=mask)
    return model, reading, pairable
