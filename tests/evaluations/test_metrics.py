"""Metrics of torchmetrics as figures."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAUROC, MulticlassF1Score
from torchmetrics.text import CHRFScore

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import batch, tiny

from zolit.datamodules.encode_own import OwnCollate, OwnExample
from zolit.errors import UserError
from zolit.evaluations import Metrics
from zolit.objectives import LossFunction, OptionScoring, Writing


def bound(**options: Any) -> Metrics:
    one = Metrics(**options)
    one.bind(OptionScoring())
    return one


def test_figures_are_those_of_the_metrics_over_all_rows() -> None:
    one = bound(metrics={"f1": MulticlassF1Score(3), "auroc": MulticlassAUROC(3)})
    assert (one.primary, one.mode, one.names) == ("f1", "max", ["f1", "auroc"])
    single = bound(metrics={"f1": MulticlassF1Score(3, average="macro")})
    chances = bound(metrics={"auroc": MulticlassAUROC(3)}, sees="probabilities")
    model = tiny("llama")
    with torch.no_grad():
        scores = OptionScoring().scores(model, batch("llama"))
        for _ in range(2):
            single.update(model, batch("llama"))
            chances.update(model, batch("llama"))
    labels = batch("llama").labels.repeat(2)
    wanted = MulticlassF1Score(3)(scores.argmax(1).repeat(2), labels)
    torch.testing.assert_close(single.figures(), {"f1": wanted})
    wanted = MulticlassAUROC(3)(scores.softmax(1).repeat(2, 1), labels)
    torch.testing.assert_close(chances.figures(), {"auroc": wanted})
    with torch.no_grad():
        found = single.predict(model, batch("llama"))["prediction"]
    assert torch.equal(found, scores.argmax(1))


def test_texts() -> None:
    class Letters:
        def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
            return " ".join(map(str, ids))

    rows = OwnCollate(1, Writing(Letters(), most=3))(
        [OwnExample([5, 6], [[7]], (0,), accepted=(("1 2 3",), ("4",)))]
    )
    model, one = tiny("llama"), bound(metrics={"chrf": CHRFScore()}, sees="text")
    one.try_out(model)
    with torch.no_grad():
        one.update(model, rows)
    [text] = one.predict(model, rows)["prediction"]
    torch.testing.assert_close(one.figures()["chrf"], CHRFScore()([text], [["1 2 3", "4"]]))
    with pytest.raises(UserError, match="rows whose answers are not written"):
        one.update(model, batch("llama"))


class Strange(MeanMetric):
    """A metric that gives what it was told to."""

    higher_is_better = True

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.given = value

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        super().update(1.0)

    def compute(self) -> Any:
        return self.given


@pytest.mark.parametrize(
    ("value", "got"),
    [(torch.tensor(float("nan")), "NaN"), (torch.ones(2), "tensor"), (None, "None")],
)
def test_what_is_no_number_is_refused(value: Any, got: str) -> None:
    one = bound(metrics={"strange": Strange(value)})
    with torch.no_grad():
        one.update(tiny("llama"), batch("llama"))
    with pytest.raises(UserError, match=f"the metric 'strange' gave {got}"):
        one.figures()


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="metrics: got none"):
        Metrics({})
    with pytest.raises(UserError, match="MeanMetric does not say whether it is to be large"):
        Metrics({"mean": MeanMetric()})
    with pytest.raises(UserError, match="judged by 'f2', expected one of its figures: f1"):
        Metrics({"f1": MulticlassF1Score(3)}, primary="f2")
    assert Metrics({"mean": MeanMetric()}, maximize=False).mode == "min"
    one = Metrics({"f1": MulticlassF1Score(3)})
    one.bind(LossFunction(print))
    with pytest.raises(UserError, match="needs an objective that scores answers"):
        one.update(nn.Identity(), batch("llama"))
