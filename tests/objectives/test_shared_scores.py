"""`OptionScoring` with the part of the derivative that all rows share made smaller."""

import pytest
import torch
from tiny_models import batch, tiny
from torch import Tensor, nn
from transformers.modeling_outputs import CausalLMOutput

from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import DensePerturber, Estimator, GaussNewton, NoQuantizer, TwoPoint
from zolit.training.zero_order import ZeroOrderModule

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


def module(estimator: Estimator, tune: str = "linear", shared: float = 0.2) -> ZeroOrderModule:
    return ZeroOrderModule(
        ModelSource("none"),
        NoQuantizer(),
        DensePerturber(),
        estimator,
        objective=OptionScoring(shared),
        tune=[tune],
        dtype="float32",
        kernels="reference",
    )


def test_estimators_that_do_not_compare_are_refused() -> None:
    with pytest.raises(UserError, match="compares the reads of a direction, which GaussNewton"):
        module(GaussNewton())
    module(GaussNewton(), shared=1.0)


def test_reads_made_one_by_one_compare_as_copies_do() -> None:
    scores, change, labels = drawn(1)
    model, one = Scores(scores, 1e3 * change), rows(labels)
    objective = OptionScoring(0.2)
    together = objective.losses(model, one, 2)
    apart = objective.compare(objective.repeated_scores(model, one, 2).chunk(2), one)
    assert torch.equal(together, apart)
    assert not torch.allclose(together, OptionScoring().losses(model, one, 2))


@pytest.mark.parametrize("tune", ["linear", "norms"])
def test_two_passes_say_what_one_pass_says(tune: str) -> None:
    """Norms cannot be read in two versions in one pass."""
    found = []
    for paired in (True, False):
        one = module(TwoPoint(paired), tune)
        one.adopt(tiny("llama"))
        assert one.pairable == (tune == "linear")
        with torch.no_grad():
            found.append(one.estimate(batch("llama"), [3, 4]).values)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)
    plain = module(TwoPoint(), tune, shared=1.0)
    plain.adopt(tiny("llama"))
    with torch.no_grad():
        assert not torch.allclose(plain.estimate(batch("llama"), [3, 4]).values, found[0])
