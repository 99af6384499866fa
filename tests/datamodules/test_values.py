import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from zolit.datamodules.values import UnfitValueError, joined, plain, plain_values, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("00042", "00042"),
        ("", ""),
        (7, "7"),
        (np.int64(-7), "-7"),
        (1.5, "1.5"),
        (np.float32(0.1), "0.1"),
        (True, "true"),
        (np.bool_(False), "false"),
        (decimal.Decimal("1.50"), "1.50"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (pd.Timestamp("2026-01-02 03:04"), "2026-01-02 03:04:00"),
        ("naïve".encode(), "naïve"),
    ],
)
def test_text(value: object, text: str) -> None:
    assert text_of(value) == text


def test_plain_reaches_inside() -> None:
    nested = np.array([{"role": b"user", "n": np.int64(1)}, np.array(["a", "b"])], dtype=object)
    assert plain(nested) == [{"role": "user", "n": 1}, ["a", "b"]]


def test_a_column_of_short_floats() -> None:
    assert plain_values(pd.Series([0.1, 2.5], dtype="float32")) == [0.1, 2.5]
    [error] = plain_values(pd.Series([b"\xff"]))
    assert isinstance(error, UnfitValueError)


def test_words_of_a_list() -> None:
    assert joined(np.array(["a"] * 1200 + ["b"], dtype=object)) == "a " * 1200 + "b"
    for value in ("text", [1, 2], [["a"]]):
        with pytest.raises(UnfitValueError, match="leave"):
            joined(value)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["a", "b"], "join"),
        (np.array([1, 2]), "join"),
        ({"a": 1}, "column of its own"),
        (b"\xff\xfe", "no UTF-8"),
        (object(), "object"),
        (pd.Timedelta("1s"), "Timedelta"),
    ],
)
def test_what_is_no_text(value: object, words: str) -> None:
    with pytest.raises(UnfitValueError, match=words):
        text_of(value)
