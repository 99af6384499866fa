"""Options and answers of each row against a slow loop: one row at a time, no padding, float64."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from test_option_scoring import CAUSAL, tiny

from zolit.datamodules.encode_own import OwnCollate, OwnExample
from zolit.errors import UserError
from zolit.evaluations import Classification
from zolit.objectives import AnswerBatch, AnswerLoss, OptionScoring, row_scores

EXAMPLES = [
    OwnExample([5, 6, 7], [[30], [31, 33], [32, 34, 35]], (1,), ("a", "b", "c")),
    OwnExample([8, 9, 10, 11, 12, 13, 14], [[36, 37], [38]], (0, 1), ("d", "e")),
    OwnExample([17], [[40], [41], [42, 43, 44, 45], [46]], (2,), ("f", "g", "h", "i")),
]


def batch(examples: list[OwnExample] = EXAMPLES) -> AnswerBatch:
    collate = OwnCollate(1, None)
    collate.width = 4
    return collate(examples)


def slow_log_probs(model: nn.Module) -> list[list[Tensor]]:
    """Of each token of each answer, by the model of transformers itself in float64."""
    model = model.double()
    found = []
    for one in EXAMPLES:
        found.append([])
        for answer in one.answers:
            with torch.no_grad():
                chances = model(torch.tensor([one.ids + answer])).logits[0].log_softmax(-1)
            places = torch.arange(len(one.ids) - 1, len(one.ids) + len(answer) - 1)
            found[-1].append(chances[places, torch.tensor(answer)])
    return found


@pytest.mark.parametrize("name", CAUSAL)
def test_scores_and_losses_match_single_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, one = tiny(CAUSAL, name), batch()
    choosing, answering = OptionScoring(), AnswerLoss()
    with torch.no_grad():
        scores = choosing.scores(model, one)
        assert torch.equal(scores, answering.scores(model, one))
        losses = answering.losses(model, one, copies=2)
        entropies = choosing.losses(model, one, copies=2)
        # The same in many passes.
        monkeypatch.setattr(row_scores, "AT_ONCE", 700)
        torch.testing.assert_close(choosing.scores(model, one), scores)
        torch.testing.assert_close(answering.losses(model, one, copies=2), losses)
    slow = slow_log_probs(model)
    assert scores.dtype == losses.dtype == torch.float32
    for row, options in zip(scores, slow, strict=True):
        wanted = torch.stack([option.mean() for option in options])
        torch.testing.assert_close(row[: len(options)].double(), wanted, atol=2e-5, rtol=1e-5)
        assert (row[len(options) :] == row_scores.ABSENT).all()
        assert wanted.std() > 1e-3
    right = torch.cat([slow[0][1], slow[1][0], slow[2][2]])
    wanted = -right.mean().expand(2)
    torch.testing.assert_close(losses.double(), wanted, atol=2e-5, rtol=1e-5)
    each = [
        torch.stack([o.mean() for o in options]).log_softmax(0)[label]
        for options, label in zip(slow, (1, 0, 2), strict=True)
    ]
    wanted = -torch.stack(each).mean().expand(2)
    torch.testing.assert_close(entropies.double(), wanted, atol=2e-5, rtol=1e-5)


def test_only_right_rows_are_read_for_the_loss() -> None:
    model, seen = tiny(CAUSAL, "llama"), []
    model.model.register_forward_pre_hook(
        lambda module, args, options: seen.append(options["input_ids"].shape), with_kwargs=True
    )
    with torch.no_grad():
        AnswerLoss().losses(model, batch(), copies=2)
    # The longest right row has nine tokens, the longest row at all too.
    assert seen == [(6, 9)]


def test_accuracy_counts_every_right_option() -> None:
    class Fixed(OptionScoring):
        def scores(self, model: nn.Module, batch: Any) -> Tensor:
            return torch.tensor([[1.0, 3, 2, -9], [1, 2, -9, -9], [1, 2, 3, 4]])

    evaluation = Classification()
    evaluation.bind(Fixed())
    evaluation.update(nn.Identity(), batch())
    # The second example's second option is right though its label is the first; the third is wrong.
    assert float(evaluation.figures()["accuracy"]) == pytest.approx(2 / 3)
    assert evaluation.pattern() is None
    found = evaluation.predict(nn.Identity(), batch())
    assert found["answer"] == ["b", "e", "i"]
    assert found["prediction"].tolist() == [1, 1, 3]


def test_absent_options_have_no_probability() -> None:
    model = tiny(CAUSAL, "llama")
    with torch.no_grad():
        scores = OptionScoring().scores(model, batch())
    assert scores.softmax(1)[1, 2:].tolist() == [0, 0]
    assert math.isfinite(float((scores - scores).sum()))


def test_what_is_refused() -> None:
    model = tiny(CAUSAL, "llama")
    with pytest.raises(UserError, match=r"shared=0\.2 and rows with options of their own"):
        OptionScoring(shared=0.2).losses(model, batch())
    unknown = [OwnExample([5, 6], [[7], [8]], (), ("a", "b"))]
    with pytest.raises(UserError, match="does not say which answer is right"):
        AnswerLoss().losses(model, batch(unknown))
    with pytest.raises(UserError, match="AnswerLoss reads rows with answers of their own"):
        AnswerLoss().losses(model, torch.zeros(2))
    single = OwnCollate(1, None)([OwnExample([5, 6], [[7]], (0,), ("a",))])
    with pytest.raises(UserError, match="the rows have no options to choose from"):
        AnswerLoss().scores(model, single)
