"""Scores against a slow computation: one row at a time, no padding, all logits, float64."""

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

from zolit.models.families import answer_logits
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch

VOCAB, PAD, MASK = 64, 1, 4
SIZES = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 2, "pad_token_id": PAD}
CAUSAL = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig, GROUPED),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig, {**GROUPED, "sliding_window": 6}),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config, {**GROUPED, "head_dim": 8}),
    "gemma3": (
        hf.Gemma3ForCausalLM,
        hf.Gemma3TextConfig,
        {**GROUPED, "head_dim": 8, "final_logit_softcapping": 0.5, "sliding_window": 6},
    ),
    "opt": (hf.OPTForCausalLM, hf.OPTConfig, {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "gpt2": (
        hf.GPT2LMHeadModel,
        hf.GPT2Config,
        {"vocab_size": VOCAB, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    ),
}
MASKED = {
    "roberta": (
        hf.RobertaForMaskedLM,
        hf.RobertaConfig,
        {**SIZES, "intermediate_size": 64, "max_position_embeddings": 64, "pad_token_id": PAD},
    ),
    "bert": (hf.BertForMaskedLM, hf.BertConfig, {**SIZES, "intermediate_size": 64}),
    # DistilBERT has no head module of its own: all logits are made.
    "distilbert": (
        hf.DistilBertForMaskedLM,
        hf.DistilBertConfig,
        {"vocab_size": VOCAB, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    ),
}
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13, 14, 15, 16], [17], [18, 19, 20, 21, 22]]
LABELS = [0, 2, 1, 1]
ONE_TOKEN = [[30], [31], [32]]
SEVERAL = [[30], [31, 33], [32, 34, 35]]


def tiny(table: dict, name: str) -> nn.Module:
    model_class, config_class, options = table[name]
    torch.manual_seed(0)
    model = model_class(config_class(**options)).eval()
    # Larger weights than at initialization, or all scores are nearly equal.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def padded(rows: list[list[int]], left: bool) -> tuple[Tensor, Tensor]:
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), PAD)
    mask = torch.zeros(len(rows), width, dtype=torch.int64)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(0, len(row))
        ids[index, place] = torch.tensor(row)
        mask[index, place] = 1
    return ids, mask


def causal_batch(answers: list[list[int]]) -> PromptBatch:
    longest = max(map(len, answers))
    answer_ids = torch.tensor([ids + [-1] * (longest - len(ids)) for ids in answers])
    if longest == 1:
        ids, mask = padded(PROMPTS, left=True)
        positions = torch.full((len(PROMPTS), 1), ids.shape[1] - 1)
        return PromptBatch(ids, mask, positions, answer_ids, torch.tensor(LABELS))
    ids, mask = padded([prompt + answer for prompt in PROMPTS for answer in answers], left=True)
    end = ids.shape[1] - 1
    places = [
        [*range(end - len(answer), end), *[-1] * (longest - len(answer))] for answer in answers
    ]
    positions = torch.tensor(places * len(PROMPTS))
    return PromptBatch(ids, mask, positions, answer_ids, torch.tensor(LABELS), len(answers))


def slow_causal(model: nn.Module, answers: list[list[int]]) -> Tensor:
    model = model.double()
    scores = torch.zeros(len(PROMPTS), len(answers), dtype=torch.float64)
    for row, prompt in enumerate(PROMPTS):
        for column, answer in enumerate(answers):
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0]
            chances = logits.log_softmax(-1)
            for offset, token in enumerate(answer):
                place = len(prompt) - 1 + offset
                scores[row, column] += chances[place, token] / len(answer)
    return scores


@pytest.mark.parametrize("answers", [ONE_TOKEN, SEVERAL], ids=["one_token", "several"])
@pytest.mark.parametrize("name", CAUSAL)
def test_causal_scores_match_rows_without_padding(name: str, answers: list[list[int]]) -> None:
    model, batch, objective = tiny(CAUSAL, name), causal_batch(answers), OptionScoring()
    with torch.no_grad():
        scores = objective.scores(model, batch)
        losses = objective.losses(model, batch, copies=3)
        slow = slow_causal(model, answers)
    assert scores.dtype == losses.dtype == torch.float32
    if answers is ONE_TOKEN:  # logits, which differ by each row's normalizer
        scores, slow = scores.log_softmax(1), slow.log_softmax(1)
    torch.testing.assert_close(scores.double(), slow, atol=2e-5, rtol=1e-5)
    loss = nn.functional.cross_entropy(slow, torch.tensor(LABELS))
    torch.testing.assert_close(losses.double(), loss.expand(3), atol=2e-5, rtol=1e-5)
    assert objective.targets(batch).tolist() == LABELS
    assert slow.std() > 0.01


@pytest.mark.parametrize("name", CAUSAL)
def test_only_answer_positions_reach_the_vocabulary(name: str) -> None:
    model, batch = tiny(CAUSAL, name), causal_batch(SEVERAL)
    widths = []
    model.get_output_embeddings().register_forward_hook(
        lambda module, args, output: widths.append(output.shape[1])
    )
    with torch.no_grad():
        OptionScoring().scores(model, batch)
        OptionScoring().scores(model, causal_batch(ONE_TOKEN))
    assert widths == [3, 1]


@pytest.mark.parametrize("name", MASKED)
def test_masked_scores_match_rows_without_padding(name: str) -> None:
    model = tiny(MASKED, name)
    prompts = [[*prompt, MASK, 2] for prompt in PROMPTS]
    ids, mask = padded(prompts, left=False)
    positions = torch.tensor([[len(prompt)] for prompt in PROMPTS])
    batch = PromptBatch(ids, mask, positions, torch.tensor(ONE_TOKEN), torch.tensor(LABELS))
    with torch.no_grad():
        scores = OptionScoring().scores(model, batch)
        logits = answer_logits(model, ids, mask, positions)
        model = model.double()
        slow = [
            model(input_ids=torch.tensor([row])).logits[0, len(row) - 2].log_softmax(-1)[30:33]
            for row in prompts
        ]
    assert logits.shape == (len(PROMPTS), 1, VOCAB)
    wanted = torch.stack(slow).log_softmax(1)
    torch.testing.assert_close(scores.log_softmax(1).double(), wanted, atol=2e-5, rtol=1e-5)


def test_more_padding_does_not_change_scores() -> None:
    model, batch = tiny(CAUSAL, "opt"), causal_batch(ONE_TOKEN)
    wide = PromptBatch(
        nn.functional.pad(batch.input_ids, (7, 0), value=PAD),
        nn.functional.pad(batch.attention_mask, (7, 0)),
        batch.answer_positions + 7,
        batch.answer_ids,
        batch.labels,
    )
    with torch.no_grad():
        narrow_scores = OptionScoring().scores(model, batch)
        torch.testing.assert_close(OptionScoring().scores(model, wide), narrow_scores)


class PlainModel(nn.Module):
    """A user's own model: token ids and mask in, all logits out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, VOCAB)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> hf.utils.ModelOutput:
        return hf.modeling_outputs.CausalLMOutput(logits=self.embed(input_ids))


def test_model_without_logits_to_keep() -> None:
    model, batch = PlainModel(), causal_batch(ONE_TOKEN)
    with torch.no_grad():
        scores = OptionScoring().scores(model, batch)
        last = model.embed(torch.tensor([prompt[-1] for prompt in PROMPTS]))
    torch.testing.assert_close(scores, last[:, 30:33])


def test_weights_get_gradients_when_the_caller_wants_them() -> None:
    model = tiny(CAUSAL, "llama")
    OptionScoring().losses(model, causal_batch(SEVERAL)).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())
