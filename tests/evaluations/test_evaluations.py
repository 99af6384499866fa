"""Figures, directions and refusals of evaluations; what fits which objective."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_zero_order import loader, module, trainer
from tiny_models import batch, tiny

from zolit.errors import UserError
from zolit.evaluations import Classification, Evaluation, MeanLoss, Perplexity, evaluation_for
from zolit.evaluations.text_loss import TextLoss
from zolit.noise import fold
from zolit.objectives.base import Objective
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import ConstantQueries, GaussNewton


class Noisy(Objective):
    """Squares of what the model makes of inputs and drawn noise; remembers what it drew."""

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    def draw(self, batch: Tensor, key: int) -> Tensor:
        generator = torch.Generator().manual_seed(key % (1 << 63))
        self.drawn.append(torch.randn(batch.shape, generator=generator))
        return batch + self.drawn[-1]

    def losses(self, model: nn.Module, batch: Tensor, copies: int = 1) -> Tensor:
        found: Tensor = model(batch.repeat(copies, 1)).square().view(copies, -1).mean(1)
        return found


def test_the_default_fits_the_objective() -> None:
    assert isinstance(evaluation_for(OptionScoring()), Classification)
    assert isinstance(evaluation_for(Noisy()), MeanLoss)


def test_what_cannot_work_together_is_refused() -> None:
    with pytest.raises(UserError, match="Classification needs an objective with what Scored has"):
        module(objective=Noisy(), evaluation=Classification())
    with pytest.raises(UserError, match="GaussNewton needs an objective with what Scored has"):
        module(objective=Noisy(), estimator=GaussNewton(), query_scheduler=ConstantQueries(2))
    with pytest.raises(RuntimeError, match="bind"):
        _ = Classification().objective


def test_the_mean_loss_counts_rows_and_draws_alike_each_time() -> None:
    objective, evaluation = Noisy(), MeanLoss()
    evaluation.bind(objective)
    batches = [torch.ones(3, 2), torch.full((1, 2), 2.0)]
    found = []
    for _ in range(2):
        one = evaluation.fresh()
        for each in batches:
            one.update(nn.Identity(), each)
        found.append(one.figures()["loss"])
    assert torch.equal(*found)
    squares = [
        (each + drawn).square() for each, drawn in zip(batches, objective.drawn, strict=False)
    ]
    torch.testing.assert_close(found[0], torch.cat(squares).mean())


def test_a_fresh_copy_shares_the_objective_and_nothing_else() -> None:
    evaluation, objective = Classification(), OptionScoring()
    evaluation.bind(objective)
    one = evaluation.fresh()
    with torch.no_grad():
        one.update(tiny("llama"), batch("llama"))
    assert one.objective is objective
    assert one.pattern().rows == len(batch("llama"))
    assert list(one.figures()) == ["loss", "accuracy"]
    assert int(evaluation.metrics["loss"].update_count) == 0


def test_perplexity_is_that_of_the_prompts_own_text() -> None:
    one, text = Perplexity(tokens=32), TextLoss()
    one.bind(OptionScoring())
    assert (one.primary, one.mode, one.direction("loss")) == ("perplexity", "min", "min")
    with torch.no_grad():
        one.update(tiny("llama"), batch("llama"))
        text.update(tiny("llama"), batch("llama"))
    found = one.figures()
    assert text.value is not None
    assert float(found["loss"]) == pytest.approx(text.value, rel=1e-5)
    torch.testing.assert_close(found["perplexity"], found["loss"].exp())
    with pytest.raises(UserError, match="Perplexity got a Tensor"):
        one.update(tiny("llama"), torch.zeros(1))


def test_an_evaluation_without_predictions_says_so() -> None:
    with pytest.raises(UserError, match="MeanLoss gives no predictions; use one that does"):
        MeanLoss().predict(nn.Identity(), None)


def test_the_primary_figure_must_be_there() -> None:
    class Astray(Evaluation):
        primary = "f1"

        def update(self, model: nn.Module, batch: Any) -> None:
            raise NotImplementedError

    with pytest.raises(UserError, match="Astray is judged by 'f1', expected one of its figures"):
        Astray(loss=MeanMetric())


@pytest.mark.filterwarnings("ignore")
def test_several_loaders_are_told_apart_and_averaged() -> None:
    one = module()
    run = trainer(1)
    run.validate(one, [loader(), loader()], verbose=False)
    names = {"val_loss", "val_accuracy"}
    assert run.callback_metrics.keys() == names | {f"{n}/{k}" for n in names for k in (0, 1)}
    first, both = run.callback_metrics["val_loss/0"], run.callback_metrics["val_loss"]
    torch.testing.assert_close(first, both)
    assert len(one.evaluated["val"]) == 2


@pytest.mark.filterwarnings("ignore")
def test_an_objective_draws_once_a_batch_by_step_and_micro_batch() -> None:
    class Keys(OptionScoring):
        keys: list[int] = []  # noqa: RUF012

        def draw(self, batch: Any, key: int) -> Any:
            self.keys.append(key)
            return batch

    one = module(objective=Keys(), query_scheduler=ConstantQueries(2), micro_batches=2)
    trainer(2).fit(one, loader())
    assert Keys.keys == [fold(3, 2, step, micro) for step in (0, 1) for micro in (0, 1)]
