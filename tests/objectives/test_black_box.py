"""Figures without a gradient as losses."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import BinaryHingeLoss, MulticlassF1Score
from torchmetrics.text import BLEUScore

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_zero_order import loader, module, trainer
from tiny_models import batch, tiny

from zolit.datamodules.encode_own import OwnCollate, OwnExample
from zolit.errors import UserError
from zolit.evaluations import Classification, evaluation_for
from zolit.noise import fold
from zolit.objectives import BlackBox, OptionScoring, Writing
from zolit.objectives.black_box import SquadF1
from zolit.strategies import TwoPoint


def losses(objective: BlackBox, copies: int = 1, key: int = 7, one: Any = None) -> Tensor:
    one = batch("llama") if one is None else one
    with torch.no_grad():
        return objective.losses(tiny("llama"), objective.draw(one, key), copies)


def predicted() -> Tensor:
    with torch.no_grad():
        return OptionScoring().scores(tiny("llama"), batch("llama")).argmax(1)


def test_the_default_is_the_accuracy() -> None:
    right = (predicted() == batch("llama").labels).float().mean()
    assert losses(BlackBox(), copies=2).tolist() == [-float(right)] * 2
    assert 0 < right < 1


def test_a_metric_says_its_direction() -> None:
    f1 = MulticlassF1Score(3)
    wanted = float(MulticlassF1Score(3)(predicted(), batch("llama").labels))
    assert losses(BlackBox(f1)).item() == pytest.approx(-wanted)
    # A second batch starts anew.
    assert losses(BlackBox(f1)).item() == pytest.approx(-wanted)
    assert BlackBox(BinaryHingeLoss()).sign == 1
    assert BlackBox(f1, maximize=False).sign == 1
    with pytest.raises(UserError, match="MeanMetric does not say whether it is to be large"):
        BlackBox(MeanMetric())


def test_a_function_gets_predictions_the_batch_and_a_key() -> None:
    seen: list[Any] = []

    def function(predictions: Tensor, rows: Any, key: int) -> Tensor:
        seen.append((predictions, len(rows), key))
        return predictions[:, 0].mean()

    objective = BlackBox(function=function, sees="probabilities")
    found = losses(objective, copies=2, key=11)
    with torch.no_grad():
        wanted = OptionScoring().scores(tiny("llama"), batch("llama")).softmax(1)
    assert [(rows, key) for _, rows, key in seen] == [(4, 11)] * 2
    torch.testing.assert_close(seen[0][0], wanted)
    torch.testing.assert_close(found, wanted[:, 0].mean().expand(2))


def test_own_options_count_every_right_one() -> None:
    examples = [OwnExample([5, 6], [[7], [8]], (0, 1)), OwnExample([9], [[7], [8], [10]], (0,))]
    collate = OwnCollate(1, None)
    collate.width = 3
    one = collate(examples)
    with torch.no_grad():
        chosen = OptionScoring().scores(tiny("llama"), one).argmax(1)
    assert losses(BlackBox(), one=one).item() == -(1 + int(chosen[1] == 0)) / 2


def test_answers_are_drawn_from_the_softmax_over_the_temperature() -> None:
    """A z-test of four rows over 3000 keys; it fails by chance once in 10000 seeds."""
    objective, drawn = BlackBox(temperature=2.0), []
    with torch.no_grad():
        scores = OptionScoring().scores(tiny("llama"), batch("llama"))
    for step in range(3000):
        drawn.append(objective._answers(scores, fold(1, step)))
    counts = nn.functional.one_hot(torch.stack(drawn), 3).double().sum(0)
    chance = (scores / 2.0).softmax(1).double()
    z = (counts - 3000 * chance) / (3000 * chance * (1 - chance)).sqrt()
    assert float(z.abs().max()) < 4.3
    assert torch.equal(objective._answers(scores, 5), objective._answers(scores, 5))
    # Both reads share the draw, and the global generator is left alone.
    state = torch.get_rng_state()
    first, second = losses(objective, copies=2)
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("value", "got"),
    [(math.nan, "NaN"), (torch.tensor(math.nan), "NaN"), (None, "NoneType None"), ({}, "dict")],
)
def test_what_is_no_number_is_refused(value: Any, got: str) -> None:
    with pytest.raises(UserError, match=f"the function of BlackBox gave {got}"):
        losses(BlackBox(function=lambda predictions, rows: value))


def test_a_function_that_raises_is_told_and_then_stops(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def function(predictions: Tensor, rows: Any) -> float:
        calls.append(1)
        if len(calls) != 3:
            raise KeyError("no such row")
        return 1.0

    objective = BlackBox(function=function, max_failures=3)
    assert [math.isnan(losses(objective)) for _ in range(5)] == [True, True, False, True, True]
    said = capsys.readouterr().err
    assert "the function of BlackBox raised KeyError: 'no such row'; the step is skipped (2" in said
    with pytest.raises(UserError, match="raised 3 times in a row, the last time KeyError"):
        losses(objective)


@pytest.mark.filterwarnings("ignore")
def test_a_step_that_fails_is_skipped_and_counted() -> None:
    calls: list[int] = []

    def function(predictions: Tensor, rows: Any) -> float:
        calls.append(1)
        if len(calls) in (3, 4):
            raise ValueError("bad")
        return float(len(calls))

    one = module(objective=BlackBox(function=function), estimator=TwoPoint(paired=False))
    trainer(3).fit(one, loader())
    assert len(calls) == 6
    assert one.skipped_queries == 1


def test_nan_scores_are_left_to_the_module() -> None:
    class Broken(OptionScoring):
        def repeated_scores(self, model: Any, batch: Any, copies: int) -> Tensor:
            return torch.full((copies * 4, 3), math.nan)

    objective = BlackBox()
    objective._scoring = Broken()
    assert losses(objective, copies=2).isnan().all()
    assert objective.failures == 0


def test_texts_are_written_in_a_pair() -> None:
    class Letters:
        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return " ".join(map(str, ids))

    model = tiny("llama")
    examples = [OwnExample([5, 6], [[7]], (0,), accepted=(("1",),)), OwnExample([9], [[7]], (0,))]
    rows = OwnCollate(1, Writing(Letters(), most=3))(examples)
    seen: list[list[str]] = []

    def function(texts: list[str], batch: Any) -> float:
        seen.append(texts)
        return 1.0

    objective = BlackBox(function=function, sees="text")
    objective.try_out(model)
    losses(objective, copies=2, one=rows)
    assert seen[0] == seen[1]
    assert [len(text.split()) for text in seen[0]] == [3, 3]
    text = seen[0][0]
    golds = [
        OwnExample([5, 6], [[7]], (0,), accepted=((text,),)),
        OwnExample([9], [[7]], (0,), accepted=(("x",),)),
    ]
    rows = OwnCollate(1, Writing(Letters(), most=3))(golds)
    assert losses(BlackBox(function=SquadF1(), sees="text", maximize=True), one=rows).item() == -0.5
    metric = BlackBox(BLEUScore(n_gram=1), sees="text")
    assert -1 < losses(metric, one=rows).item() < 0
    with pytest.raises(UserError, match="rows whose answers are not written"):
        losses(objective, one=batch("llama"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metric": MulticlassF1Score(3), "function": print}, "a metric and a function"),
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"max_failures": 0}, "max_failures must be at least 1"),
        ({"sees": "text"}, "without a metric or a function of texts"),
        ({"sees": "probabilities", "temperature": 1.0, "function": max}, "temperature: got 1.0"),
    ],
)
def test_options_that_are_refused(options: Any, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        BlackBox(**options)


def test_it_is_evaluated_by_its_scores() -> None:
    assert isinstance(evaluation_for(BlackBox()), Classification)
