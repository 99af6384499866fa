"""A row's score does not hang on the rows beside it, whatever the model does with padding."""

import logging
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import MODELS, VOCAB, tiny
from type_configs import PAD, build

from zolit.datamodules.collate import Collate
from zolit.datamodules.encode import Example
from zolit.errors import UserError
from zolit.memory.batches import Batches
from zolit.memory.estimate import estimate_memory
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.padding import groups
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import CodePerturber, DensePerturber, Int8, NoQuantizer
from zolit.training.zero_order import ZeroOrderModule

ONE_TOKEN, SEVERAL = [[20], [30]], [[20], [30, 31, 32]]


def prompts(lengths: list[int], answers: list[list[int]]) -> PromptBatch:
    rows = [
        Example([5 + (7 * row + 3 * place) % 80 for place in range(length)], row % 2)
        for row, length in enumerate(lengths)
    ]
    return Collate(answers, PAD)(rows)


def module(model: nn.Module, quantized: bool = False, **options: object) -> ZeroOrderModule:
    parts = (Int8(), CodePerturber(1.4)) if quantized else (NoQuantizer(), DensePerturber(0.02))
    one = ZeroOrderModule(ModelSource("."), *parts, dtype="float32", kernels="reference", **options)
    one.adopt(model)
    one.network.eval()
    return one


def alone(one: ZeroOrderModule, lengths: list[int], answers: list[list[int]]) -> Tensor:
    """Scores of each row as the only one of its batch, by transformers' own forward."""
    found = []
    for row, length in enumerate(lengths):
        whole = prompts(lengths, answers)
        each = []
        for number, answer in enumerate(answers):
            prompt = [5 + (7 * row + 3 * place) % 80 for place in range(length)]
            ids = torch.tensor([prompt + answer[:-1]])
            logits = one.network(input_ids=ids).logits[0, length - 1 :]
            scores = logits if answers == ONE_TOKEN else logits.log_softmax(-1)
            each.append(scores[range(len(answer)), answer].mean())
            assert number < whole.labels.numel()
        found.append(torch.stack(each))
    return torch.stack(found)


@pytest.mark.parametrize("answers", [ONE_TOKEN, SEVERAL])
@pytest.mark.parametrize("model_type", ["bart", "blenderbot"])
@torch.no_grad()
def test_positions_that_count_padding(
    model_type: str, answers: list[list[int]], caplog: pytest.LogCaptureFixture
) -> None:
    lengths = [5, 12, 9, 5, 12]
    with caplog.at_level(logging.WARNING):
        one = module(build(model_type, "causal"))
    told = [record.getMessage() for record in caplog.records if "other rows" in record.msg]
    assert len(told) == 1
    assert told[0].endswith("rows run with those of their own length")
    got = one.objective.scores(one.network, prompts(lengths, answers))
    torch.testing.assert_close(got, alone(one, lengths, answers), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("answers", [ONE_TOKEN, SEVERAL])
@torch.no_grad()
def test_a_pair_of_batches_by_length_equals_two_passes(answers: list[list[int]]) -> None:
    batch = prompts([5, 12, 9, 5], answers)
    upper = ["model.decoder.layers.1.*_proj.weight", "model.decoder.layers.1.fc*.weight"]
    for tune in (["linear"], upper):
        one = module(build("bart", "causal"), quantized=True, tune=tune)
        assert one.pairable
        with one.reading.same_batch():
            for key in (5, 6):
                with one.reading.perturbed(key, 1.4, 2):
                    both = one.objective.losses(one.network, batch, 2)
                for sign, paired in zip((1, -1), both, strict=True):
                    with one.reading.perturbed(key, sign * 1.4, 1):
                        single = one.objective.losses(one.network, batch)[0]
                    torch.testing.assert_close(single, paired)
                assert both[0] != both[1]


@pytest.mark.parametrize("name", MODELS)
def test_what_ignores_padding_runs_in_one_batch(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        one = module(tiny(name))
    assert isinstance(one.objective, OptionScoring)
    assert one.objective.together == "all"
    assert not [record for record in caplog.records if "other rows" in record.msg]


class Mean(nn.Module):
    """Adds to each token the mean of the whole batch, or noise."""

    def __init__(self, random: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCAB, 16), nn.Linear(16, VOCAB)
        self.layer, self.random = nn.Linear(16, 16), random

    def get_input_embeddings(self) -> nn.Module:
        return self.embed

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> CausalLMOutput:
        x = self.embed(input_ids)
        added = torch.randn_like(x) if self.random else x.mean(dim=(0, 1), keepdim=True)
        return CausalLMOutput(logits=self.head(self.layer(x + added)))


@torch.no_grad()
def test_rows_that_change_one_another_run_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        one = module(Mean(random=False))
    assert "rows run one by one" in caplog.text
    got = one.objective.scores(one.network, prompts([5, 5, 9], ONE_TOKEN))
    single = [
        one.network(batch.input_ids, batch.attention_mask).logits[0, -1, [20, 30]]
        for batch in (row(n, [5, 5, 9]) for n in range(3))
    ]
    torch.testing.assert_close(got, torch.stack(single))


def row(number: int, lengths: list[int]) -> PromptBatch:
    ids = [5 + (7 * number + 3 * place) % 80 for place in range(lengths[number])]
    return Collate(ONE_TOKEN, PAD)([Example(ids, 0)])


def test_a_forward_that_draws_numbers_is_refused() -> None:
    with pytest.raises(UserError, match=r"Mean draws random numbers in its forward"):
        module(Mean(random=True))


def test_the_estimate_runs_batches_by_length(tmp_path: Path) -> None:
    build("bart", "causal").save_pretrained(tmp_path)
    parts = (ModelSource(str(tmp_path), kind="causal"), Int8(), CodePerturber(1.0))
    one = ZeroOrderModule(*parts, kernels="reference")
    batch = prompts([5, 12, 9, 5], ONE_TOKEN)
    estimate = estimate_memory(one, Batches(batch, batch, ""), base=0)
    assert isinstance(one.objective, OptionScoring)
    assert one.objective.together == "one length"
    assert estimate.step > 0


def test_groups_cover_each_row_once() -> None:
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]])
    found = [(rows.tolist(), columns) for rows, columns in groups(mask, "one length")]
    assert found == [([1], slice(0, 4)), ([3], slice(1, 4)), ([0, 2], slice(2, 4))]
    assert [rows.tolist() for rows, _ in groups(mask, "one row")] == [[1], [3], [0], [2]]
