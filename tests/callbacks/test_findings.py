import math

import pytest
import torch

from zolit.callbacks import findings
from zolit.evaluations.answers import AnswerPattern, Answers


def pattern(scores: list[list[float]], targets: list[int]) -> AnswerPattern:
    answers = Answers()
    half = len(targets) // 2
    for some in (slice(0, half), slice(half, None)):
        answers.update(torch.tensor(scores[some]), torch.tensor(targets[some]))
    return answers.pattern()


LIVELY = [[2.0, 0.0], [0.0, 1.0], [0.5, 0.0], [0.0, 2.0]]
ONE_SIDED = [[2.0, 0.0], [3.0, 0.0], [0.5, 0.0], [1.0, 0.0]]
CONSTANT = [[4.0, 1.0], [2.0, -1.0], [4.0, 1.0], [4.001, 1.0]]
"""Scores may differ by what all answers share."""
LABELS = [0, 1, 0, 1]


def test_how_answers_differ() -> None:
    lively = pattern(LIVELY, LABELS)
    assert (lively.rows, lively.classes, lively.given, lively.right) == (4, 2, 2, 2)
    chances = torch.tensor(LIVELY).double().log_softmax(1)
    assert lively.spread == pytest.approx(chances.std(0, correction=0).max().item(), rel=1e-6)
    assert not lively.constant
    assert not lively.one_answer
    assert pattern(ONE_SIDED, LABELS).one_answer
    assert not pattern(ONE_SIDED, [0, 0, 0, 0]).one_answer, "one answer is right"
    assert pattern(CONSTANT, LABELS).constant
    assert not pattern([[math.nan, 0.0]] * 4, LABELS).constant, "that is told of the loss"


def test_scores_that_do_not_hang_on_the_row() -> None:
    lively, constant = pattern(LIVELY, LABELS), pattern(CONSTANT, LABELS)
    assert findings.of_answers(lively, None) is None
    kind, sentence = findings.of_answers(constant, lively) or ("", "")
    assert kind == "constant"
    assert "0.6931" in sentence
    assert "lower lr" in sentence
    _, sentence = findings.of_answers(constant, constant) or ("", "")
    assert "template" in sentence
    assert "lower lr" not in sentence, "no rate mends a task that the model cannot read"


def test_one_answer_is_told_if_it_is_new() -> None:
    lively, same = pattern(LIVELY, LABELS), pattern(ONE_SIDED, LABELS)
    assert (findings.of_answers(same, lively) or ("",))[0] == "one answer"
    assert findings.of_answers(same, same) is None


@pytest.mark.parametrize(
    ("relative", "total", "told"),
    [(1e-6, 20, True), (1e-6, 20_000, False), (5e-3, 20, False), (5e-3, None, False)],
)
def test_steps_too_short_to_do_anything(relative: float, total: int | None, told: bool) -> None:
    said = findings.of_step_length(relative, 3, total, "it is 1e-06")
    assert (said is not None) == told
    assert said is None or "raise lr (it is 1e-06)" in said


def test_steps_longer_than_the_weights() -> None:
    said = findings.of_step_length(12.3, 3, 5, "it is 0.4")
    assert said == "a step moves the weights by 12.3 times their size; lower lr (it is 0.4)"


@pytest.mark.parametrize(
    ("loss", "classes", "zero_shot", "told"),
    [
        (1.3, 4, 1.2, None),
        (1.386, 4, 0.6, None),  # no worse than a guess
        (2.97, 4, 1.25, "more than twice"),
        (2.0, 4, 1.25, None),
        (2.0, 4, None, None),
        (3.0, 4, None, "twice that of a guess"),
        (3.0, None, None, None),
        (math.nan, 4, 1.25, "the steps are too long"),
        (math.nan, 4, math.nan, "as it was before the first step"),
        (math.inf, None, None, "the loss is inf"),
    ],
)
def test_a_loss_that_steps_have_ruined(
    loss: float, classes: int | None, zero_shot: float | None, told: str | None
) -> None:
    said = findings.of_loss(loss, classes, zero_shot)
    assert (said is None) == (told is None)
    assert told is None or told in str(said)


def test_a_result_that_is_worse() -> None:
    assert findings.of_result(1.3509, 1.3) is None
    assert findings.of_result(None, 1.3) is None
    assert findings.of_result(0.71901, 0.71903) is None
    said = findings.of_result(1.3509, 1.3523)
    assert said is not None
    assert "worse than zero-shot: test loss 1.3509 -> 1.3523" in said


def test_a_loss_above_that_of_a_guess() -> None:
    assert findings.of_guess(0.6931, 2) is None
    assert findings.of_guess(0.693149, 2) is None, "no difference that can be shown"
    assert findings.of_guess(1.2, 4) is None
    assert findings.of_guess(None, 2) is None
    assert findings.of_guess(2.0, None) is None
    assert findings.of_guess(math.nan, 2) is None
    assert "0.7500 is above 0.6931, that of a guess among 2" in str(findings.of_guess(0.75, 2))


def test_a_language_that_is_forgotten() -> None:
    assert findings.of_text(5.5, 5.7) is None
    assert findings.of_text(None, 23.7) is None
    assert "5.50 to 23.70" in str(findings.of_text(5.5, 23.7))
