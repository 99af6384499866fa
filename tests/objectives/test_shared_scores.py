"""`OptionScoring` with the part of the derivative that all rows share made smaller."""

import pytest
import torch
from tiny_models import batch, tiny
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.module import ZeroOrderModule
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import DensePerturber, NoQuantizer, TwoPoint

ROWS, OPTIONS, EPS = 16, 3, 1e-4


class Scores(nn.Module):
    """Logits ``scores +- eps * change`` for the two halves of a batch, the same for each token."""

    def __init__(self, scores: Tensor, change: Tensor) -> None:
        super().__init__()
        self.both = torch.cat((scores + EPS * change, scores - EPS * change))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> CausalLMOutput:
        return CausalLMOutput(logits=self.both[: len(input_ids), None])


def rows(labels: Tensor) -> PromptBatch:
    """Prompts of one token, answered by the tokens 0, 1 and 2."""
    ones = torch.ones(len(labels), 1, dtype=torch.int64)
    return PromptBatch(ones, ones, torch.zeros_like(ones), torch.tensor([[0], [1], [2]]), labels)


def derivative(objective: OptionScoring, scores: Tensor, change: Tensor, labels: Tensor) -> Tensor:
    plus, minus = objective.losses(Scores(scores, change).double(), rows(labels), 2).double()
    return (plus - minus) / (2 * EPS)


def drawn(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(ROWS, OPTIONS, generator=generator, dtype=torch.float64)
    change = torch.randn(ROWS, OPTIONS, generator=generator, dtype=torch.float64)
    return scores, change, torch.randint(OPTIONS, (ROWS,), generator=generator)


@pytest.mark.parametrize("shared", [0.1, 0.5, 1.0])
def test_the_mean_change_counts_less(shared: float) -> None:
    scores, change, labels = drawn(0)
    change = 300 * change  # float32 losses: a difference far above their rounding
    residual = scores.softmax(1) - nn.functional.one_hot(labels, OPTIONS)
    mean = change.mean(0)
    wanted = (residual * (change - mean)).sum(1).mean() + shared * residual.mean(0) @ mean
    found = derivative(OptionScoring(shared), scores, change, labels)
    torch.testing.assert_close(found, wanted, rtol=2e-3, atol=2e-2)
    assert shared == 1 or abs(wanted - (residual * change).sum(1).mean()) > 1


@pytest.mark.parametrize("copies", [1, 2])
def test_copies_that_agree_have_the_loss_itself(copies: int) -> None:
    model, one = tiny("llama"), batch("llama")
    with torch.no_grad():
        found = OptionScoring(0.2).losses(model, one, copies)
        torch.testing.assert_close(found, OptionScoring().losses(model, one, copies))


def test_noise_of_the_shared_part_is_gone() -> None:
    """A change that is the same for all rows: d is ``shared`` times what it was, batch by batch,
    so that its variance over batches falls by ``shared`` squared.
    """
    common = torch.tensor([300.0, 0.0, -300.0], dtype=torch.float64)
    plain, less = [], []
    for seed in range(200):
        scores, _, labels = drawn(seed)
        change = common.expand(ROWS, OPTIONS)
        plain.append(derivative(OptionScoring(), scores, change, labels))
        less.append(derivative(OptionScoring(0.2), scores, change, labels))
    ratio = torch.stack(less).var() / torch.stack(plain).var()
    assert torch.stack(plain).std() > 10
    torch.testing.assert_close(ratio.item(), 0.04, rtol=2e-2, atol=0.0)


@pytest.mark.parametrize("shared", [0.0, -0.1, 1.1, float("nan")])
def test_out_of_range(shared: float) -> None:
    with pytest.raises(UserError, match="shared must be in"):
        OptionScoring(shared)


@pytest.mark.parametrize(
    ("tune", "paired"), [(["linear"], False), (["norms"], True)], ids=["unpaired", "norms"]
)
def test_it_needs_both_signs_in_one_pass(tune: list[str], paired: bool) -> None:
    module = ZeroOrderModule(
        ModelSource("none"),
        NoQuantizer(),
        DensePerturber(),
        TwoPoint(paired),
        objective=OptionScoring(0.2),
        tune=tune,
    )
    with pytest.raises(UserError, match="OptionScoring with these options compares both"):
        module.adopt(tiny("llama"))


def test_a_module_that_pairs_takes_it() -> None:
    module = ZeroOrderModule(
        ModelSource("none"), NoQuantizer(), DensePerturber(), objective=OptionScoring(0.2)
    )
    module.adopt(tiny("llama"))
    assert module.pairable
