"""F1 and exact match against torchmetrics and against the definition written out anew."""

import random
import re
import string
from decimal import Decimal

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from torchmetrics.functional.text import squad

from zolit.objectives.answer_text import drop_scores, final_number, squad_scores

WORDS = [
    "the",
    "A",
    "July,",
    "august",
    "12",
    "12.0",
    "twelve",
    "re-run",
    "U.S.",
    "an",
    "1,200",
    "x",
]


def texts(seed: int, count: int = 300) -> list[str]:
    draw = random.Random(seed)  # noqa: S311
    return [" ".join(draw.choices(WORDS, k=draw.randint(0, 5))) for _ in range(count)]


def test_squad_is_that_of_torchmetrics() -> None:
    golds = list(zip(texts(1), texts(2), strict=True))
    for text, accepted in zip(texts(0), golds, strict=True):
        found = squad(
            {"prediction_text": text, "id": "1"},
            {"answers": {"answer_start": [0, 0], "text": list(accepted)}, "id": "1"},
        )
        f1, exact = squad_scores(text, accepted)
        assert 100 * f1 == pytest.approx(float(found["f1"]), abs=1e-4)
        assert 100 * exact == pytest.approx(float(found["exact_match"]))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def normalized(answer: str) -> str:
    parts = []
    for token in re.split(" |-", answer):
        word = token.lower()
        if not is_number(word):
            word = "".join(letter for letter in word if letter not in string.punctuation)
        if is_number(word):
            word = str(float(word))
        parts.append(" ".join(re.sub(r"\b(a|an|the)\b", " ", word).split()))
    return " ".join(part for part in parts if part.strip())


def drop_by_assignment(predicted: list[str], gold: list[str]) -> tuple[float, float]:
    """Section 5 of the paper for any number of parts, with an assignment of parts to parts."""
    spans = [normalized(one) for one in predicted], [normalized(one) for one in gold]
    bags = [[set(span.split()) for span in some] for some in spans]
    scores = np.zeros((len(gold), len(predicted)))
    for i, right in enumerate(bags[1]):
        for j, said in enumerate(bags[0]):
            numbers = {word for word in right if is_number(word)}
            if numbers and not numbers & {word for word in said if is_number(word)}:
                continue
            precision = len(right & said) / len(said) if said else 1.0
            recall = len(right & said) / len(right) if right else 1.0
            total = precision + recall
            scores[i, j] = 2 * precision * recall / total if total else 0.0
    chosen = scores[linear_sum_assignment(-scores)].sum() / max(len(gold), len(predicted))
    exact = len(predicted) == len(gold) and set(spans[0]) == set(spans[1])
    return round(float(chosen), 2), float(exact)


def test_drop_is_the_definition() -> None:
    draw = random.Random(3)  # noqa: S311
    pool = [text for text in texts(4) if normalized(text)]
    for text in texts(5):
        accepted = [draw.choices(pool, k=draw.randint(1, 3)) for _ in range(draw.randint(1, 3))]
        each = [drop_by_assignment([text], gold) for gold in accepted]
        assert drop_scores(text, accepted) == tuple(map(max, zip(*each, strict=True)))
    hits = [drop_scores(text, [[text]]) for text in pool]
    assert set(hits) == {(1.0, 1.0)}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("<<48/2=24>>24 clips.\n#### 72", "72"),
        ("#### $1,234.50\nQuestion: 3", "1234.50"),
        ("She pays 10-15 dollars", "15"),
        ("It is -5", "-5"),
        ("so x = 3, then 1,2", "2"),
        ("1,000,000 in all.", "1000000"),
        ("half: .5", "0.5"),
        ("none", None),
        ("", None),
        ("#### none of 3", "3"),
    ],
)
def test_final_numbers(text: str, number: str | None) -> None:
    assert final_number(text) == (None if number is None else Decimal(number))
