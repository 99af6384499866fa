"""Figures of written answers."""

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "datamodules"))

from zolit.datamodules.encode_own import OwnCollate, OwnExample
from zolit.errors import UserError
from zolit.evaluations import DropAnswers, ExactNumber, GeneratedAnswers, SquadAnswers
from zolit.objectives import AnswerBatch, AnswerLoss, Writing


class Letters:
    """A tokenizer with a token for each letter."""

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))


class Said:
    """A decoder that writes given texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def write(self, model: Any, ids: Any, mask: Any, *how: Any) -> list[list[int]]:
        return [list(map(ord, text)) for text in self.texts]


def batch(*accepted: tuple[tuple[str, ...], ...]) -> AnswerBatch:
    writing = Writing(Letters(), most=8, stops=("\n",))
    examples = [OwnExample([5], [[6]], (0,), accepted=one) for one in accepted]
    return OwnCollate(1, writing)(examples)


def figures(one: GeneratedAnswers, texts: list[str], rows: AnswerBatch) -> dict[str, float]:
    one.bind(AnswerLoss())
    one.decoder = Said(*texts)  # type: ignore[assignment]
    one.update(nn.Identity(), rows)
    return {name: float(value) for name, value in one.figures().items()}


def test_squad_takes_the_best_accepted_answer() -> None:
    rows = batch((("July",), ("in July, 1900",)), (("Ada",),))
    found = figures(SquadAnswers(), [" the July\nQuestion: x", "Bob Ada"], rows)
    assert found == pytest.approx({"f1": (1 + 2 / 3) / 2, "exact_match": 0.5})


def test_drop_and_numbers() -> None:
    rows = batch((("12",),), (("Ada", "Bob"),))
    assert figures(DropAnswers(), ["12.0", "Ada"], rows) == {"f1": 0.75, "exact_match": 0.5}
    rows = batch((("3+4=7\n#### 7",),), (("#### 8",),))
    assert figures(ExactNumber(), ["I say 7.", "9"], rows) == {"accuracy": 0.5}


def test_empty_answers_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    found = figures(SquadAnswers(), ["\nJuly", "Ada"], batch((("July",),), (("Ada",),)))
    assert found == {"f1": 0.5, "exact_match": 0.5}
    assert "1 of 2 written answers are empty" in capsys.readouterr().err


def test_predictions_are_texts() -> None:
    one = SquadAnswers()
    one.decoder = Said("July")  # type: ignore[assignment]
    assert one.predict(nn.Identity(), batch((("x",),))) == {"answer": ["July"]}


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match="SquadAnswers reads rows of a task with written answers"):
        SquadAnswers().update(nn.Identity(), OwnCollate(1, None)([OwnExample([5], [[6]], (0,))]))
    with pytest.raises(UserError, match="a row has no accepted answer"):
        figures(SquadAnswers(), ["x"], batch(()))
    with pytest.raises(UserError, match="ends 'seven', without a number"):
        figures(ExactNumber(), ["7"], batch((("seven",),)))
