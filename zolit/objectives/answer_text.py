"""Scores of a written answer against accepted ones, as the benchmarks define them."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# A sign behind a digit is a minus between two numbers.
_NUMBER = re.compile(r"(?:(?<![\d)])[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)")
GOLD_MARK = "####"
"""Before the final number of a solution of GSM8K."""


def squad_scores(text: str, accepted: Sequence[str]) -> tuple[float, float]:
    """F1 over words and exact match, the best over the accepted answers.

    Both texts are lower-cased, without punctuation, articles and surplus blanks (Rajpurkar et al.
    2016, arXiv 1606.05250, section 6.1; the official script).

    Args:
        text: that was written.
        accepted: answers, at least one.

    Returns:
        F1 and exact match, each from 0 to 1.

    Example:
        >>> squad_scores("the months of July", ["July", "July, August"])
        (0.5, 0.0)
    """
    words = _squad_words(text)
    each = [_squad_words(one) for one in accepted]
    return max(_f1(words, one) for one in each), float(any(words == one for one in each))


def _squad_words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _f1(words: Sequence[str], gold: Sequence[str]) -> float:
    if not words or not gold:
        return float(words == gold)
    common = (Counter(words) & Counter(gold)).total()
    return 2 * common / (len(words) + len(gold))


def drop_scores(text: str, accepted: Sequence[Sequence[str]]) -> tuple[float, float]:
    """F1 and exact match of DROP, the best over the accepted answers.

    An answer is a set of words for each of its parts. Numbers are compared by value, and a part
    whose numbers are all others scores 0 (Dua et al. 2019, arXiv 1903.00161, section 5; the
    official script). The written text counts as one part: of several parts it can match one. The
    script rounds each F1 to a hundredth, and so does this.

    Args:
        text: that was written.
        accepted: the parts of each answer; at least one answer with a part each.

    Returns:
        F1 and exact match, each from 0 to 1.

    Example:
        >>> drop_scores("12.0 yards", [["12 yards"], ["nine"]])
        (1.0, 1.0)
    """
    written = _drop_text(text)
    words = set(written.split())
    f1, exact = 0.0, 0.0
    for parts in accepted:
        texts = [_drop_text(part) for part in parts]
        exact = max(exact, float(texts == [written]))
        best = max(_drop_f1(words, set(one.split())) for one in texts)
        f1 = max(f1, round(best / len(texts), 2))
    return f1, exact


def _drop_text(text: str) -> str:
    """Words of a text without articles, their punctuation left out, numbers as Python's floats."""
    words = (_drop_word(word) for word in re.split(r"[ -]", text))
    return " ".join(word for word in words if word)


def _drop_word(word: str) -> str:
    word = word.lower()
    if _float(word) is None:
        word = word.translate(_PUNCTUATION)
    number = _float(word)
    plain = word if number is None else str(number)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _drop_f1(words: set[str], gold: set[str]) -> float:
    numbers = {one for one in gold if _float(one) is not None}
    if numbers and not numbers & words:
        return 0.0
    common = len(words & gold)
    # By the script an empty set has a precision, or a recall, of 1. In its order of operations,
    # which decides how halves of a hundredth are rounded.
    precision = common / len(words) if words else 1.0
    recall = common / len(gold) if gold else 1.0
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def final_number(text: str) -> Decimal | None:
    """The number that a solution ends with: the one behind ``####``, else the last in the text.

    Args:
        text: a solution of GSM8K, or one that was written. Commas between digits are left out.

    Example:
        >>> final_number("So she has $1,240.00 left."), final_number("no idea")
        (Decimal('1240.00'), None)
    """
    _, mark, behind = text.partition(GOLD_MARK)
    found = _NUMBER.findall(behind if mark else text)
    if not found:
        return None
    chosen = found[0] if mark else found[-1]
    return Decimal(chosen.replace(",", ""))
