"""Greedy decoding against transformers' generate, token for token."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from test_option_scoring import CAUSAL, GROUPED, PROMPTS, SIZES, padded
from test_option_scoring import tiny as sized
from tiny_models import prepared, tiny

from zolit.errors import UserError
from zolit.export.plain import to_plain
from zolit.models.families import last_logits
from zolit.models.passes.arrange import arrange_passes
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.objectives.decoding import Decoder, find_decoder
from zolit.strategies import Float8, Int4, Int8

MOST = 14
MODELS: dict[str, Any] = {
    **CAUSAL,
    "gemma2": (
        hf.Gemma2ForCausalLM,
        hf.Gemma2Config,
        {**GROUPED, "head_dim": 8, "sliding_window": 6, "final_logit_softcapping": 3.0},
    ),
    "bloom": (
        hf.BloomForCausalLM,
        hf.BloomConfig,
        {"vocab_size": SIZES["vocab_size"], "hidden_size": 32, "n_layer": 2, "n_head": 4},
    ),
    "mamba": (
        hf.MambaForCausalLM,
        hf.MambaConfig,
        {"vocab_size": SIZES["vocab_size"], "hidden_size": 32, "num_hidden_layers": 2},
    ),
}


def generated(model: Any, prompt: list[int], most: int = MOST, **options: Any) -> list[int]:
    """The tokens that transformers writes behind one prompt, alone and without padding."""
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": most, "pad_token_id": 1, **options}
    with torch.no_grad():
        found: Tensor = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return found[0, len(prompt) :].tolist()


def undefined_ends(model: nn.Module) -> nn.Module:
    """The model without a token that ends texts, so that all lengths are written."""
    model.generation_config.eos_token_id = None  # type: ignore[union-attr]
    return model


@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_those_of_generate(name: str) -> None:
    model = undefined_ends(sized(MODELS, name))
    decoder = find_decoder(model)
    ids, mask = padded(PROMPTS, left=True)
    found = decoder.write(model, ids, mask, MOST)
    assert found == [generated(model, prompt) for prompt in PROMPTS]
    assert len({token for row in found for token in row}) > 3
    # Mamba has a state instead of keys and values.
    assert decoder == Decoder(cached=name != "mamba")
    # Without a cache the tokens are the same; two copies are written as one.
    again = Decoder(decoder.together, cached=False)
    assert again.write(model, ids, mask, 5) == [row[:5] for row in found]
    assert decoder.write(model, ids, mask, 5, copies=2) == 2 * [row[:5] for row in found]


def test_texts_end_where_they_should() -> None:
    model = undefined_ends(sized(MODELS, "llama"))
    ids, mask = padded(PROMPTS, left=True)
    whole = find_decoder(model).write(model, ids, mask, MOST)
    end = whole[0][4]

    def cut(row: list[int]) -> list[int]:
        return row[: row.index(end)] if end in row else row

    assert Decoder().write(model, ids, mask, MOST, ends=[end]) == [cut(row) for row in whole]
    ended = [generated(model, prompt, eos_token_id=end) for prompt in PROMPTS]
    assert [cut(row) for row in ended] == [cut(row) for row in whole]
    model.generation_config.eos_token_id = [end]
    assert Decoder().write(model, ids, mask, MOST) == [cut(row) for row in whole]
    model.generation_config.eos_token_id = None
    stopped = Decoder().write(model, ids, mask, MOST, done=lambda tokens: len(tokens) == 3)
    assert stopped == [row[:3] for row in whole]


@pytest.mark.parametrize("quantizer", [Int4(32), Int8(), Float8()])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3"])
def test_a_store_writes_as_its_decoded_floats(name: str, quantizer: Any) -> None:
    model = undefined_ends(prepared(name, quantizer)[0])
    ids, mask = padded(PROMPTS, left=True)
    found = find_decoder(model).write(model, ids, mask, MOST)
    to_plain(model)
    assert found == [generated(model, prompt) for prompt in PROMPTS]


def test_integer_products_write_as_transformers_does() -> None:
    model = undefined_ends(prepared("llama", Int8(activations="int8"))[0])
    ids, mask = padded(PROMPTS, left=True)
    found = find_decoder(model).write(model, ids, mask, MOST)
    assert found == [generated(model, prompt) for prompt in PROMPTS]


def test_a_masked_model_is_refused() -> None:
    ids = torch.tensor([[5, 6]])
    with pytest.raises(UserError, match="does not predict the next token"):
        find_decoder(tiny("roberta")).write(tiny("roberta"), ids, torch.ones_like(ids), 2)


def test_blocks_run_plain_and_are_compiled_again_afterwards() -> None:
    model, _, _ = prepared("llama", Int8(), kernels="auto")
    compile_blocks(undefined_ends(model))
    block = model.model.layers[0]
    before, seen = dict(block._compiled_call_impl.stages), []
    block.register_forward_hook(lambda *args: seen.append(block._compiled_call_impl))
    ids, mask = padded(PROMPTS, left=True)
    Decoder().write(model, ids, mask, 2)
    assert seen == [None, None]
    assert dict(block._compiled_call_impl.stages) == before


def test_a_pair_writes_what_each_sign_writes() -> None:
    """Halves that go on from tokens of their own, above blocks that a pair would share."""
    model, reading, pairable = prepared("llama", Int8(), tune=["model.layers.1.*_proj.weight"])
    undefined_ends(model)
    decoder = find_decoder(model)
    arrange_passes(model, reading, last_logits, pairable, False, False)
    ids, mask = padded(PROMPTS, left=True)
    signs = []
    for eps in (6.0, -6.0):
        with reading.perturbed(5, eps, copies=1):
            signs += decoder.write(model, ids, mask, MOST)
    with reading.same_batch(), reading.perturbed(5, 6.0, copies=2):
        pair = decoder.write(model, ids, mask, MOST, copies=2)
        uncached = Decoder(cached=False).write(model, ids, mask, MOST, copies=2)
        # A user's own function may ask transformers to write.
        twice, settings = (ids.repeat(2, 1), mask.repeat(2, 1)), {"do_sample": False}
        own = model.generate(twice[0], attention_mask=twice[1], max_new_tokens=MOST, **settings)
    assert pair == uncached == own[:, ids.shape[1] :].tolist() == signs
    assert signs[: len(PROMPTS)] != signs[len(PROMPTS) :]
