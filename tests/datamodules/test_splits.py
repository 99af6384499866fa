import pandas as pd
import pytest

from zolit.datamodules.splits import split_rows
from zolit.errors import UserError


def table(start: int, stop: int) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"t{n}" for n in range(start, stop)], "label": 0})


def sizes(train: int | None, validation: int | None, test: int | None) -> dict[str, int | None]:
    return {"train": train, "validation": validation, "test": test}


def texts(splits: dict[str, pd.DataFrame]) -> dict[str, list[str]]:
    return {split: one["text"].tolist() for split, one in splits.items()}


def test_one_table_gives_disjoint_splits() -> None:
    got = texts(split_rows({"train": table(0, 100)}, sizes(50, 20, 30), ["text"], seed=1))
    assert [len(got[split]) for split in ("train", "validation", "test")] == [50, 20, 30]
    assert len({text for split in got.values() for text in split}) == 100


def test_seed_decides() -> None:
    def draw(seed: int) -> dict[str, list[str]]:
        return texts(split_rows({"train": table(0, 50)}, sizes(10, 10, 10), ["text"], seed))

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    # A golden draw: the same on every machine and in later versions.
    assert draw(0)["test"][:4] == ["t18", "t23", "t36", "t4"]


def test_train_size_does_not_move_the_held_out_rows() -> None:
    small = texts(split_rows({"train": table(0, 50)}, sizes(10, 10, 10), ["text"], 0))
    large = texts(split_rows({"train": table(0, 50)}, sizes(None, 10, 10), ["text"], 0))
    assert small["test"] == large["test"]
    assert large["train"][:10] == small["train"]
    assert len(large["train"]) == 30


def test_given_tables_give_at_most_their_rows() -> None:
    tables = {"train": table(0, 50), "validation": table(60, 70), "test": table(80, 90)}
    got = texts(split_rows(tables, sizes(50, 500, 4), ["text"], 0))
    assert sorted(got["validation"]) == table(60, 70)["text"].tolist()
    assert len(got["test"]) == 4


def test_no_text_is_in_two_splits() -> None:
    train = pd.concat([table(0, 40), table(0, 40)], ignore_index=True)
    tables = {"train": train, "validation": table(15, 25), "test": table(20, 30)}
    got = texts(split_rows(tables, sizes(None, None, None), ["text"], 0))
    assert sorted(got["train"]) == sorted(f"t{n}" for n in [*range(15), *range(30, 40)])
    assert sorted(got["validation"]) == [f"t{n}" for n in range(15, 20)]
    assert sorted(got["test"]) == [f"t{n}" for n in range(20, 30)]


def test_zero_means_no_such_split() -> None:
    got = texts(split_rows({"train": table(0, 5)}, sizes(None, 0, 0), ["text"], 0))
    assert [len(got[split]) for split in ("train", "validation", "test")] == [5, 0, 0]


def test_index_keeps_row_numbers() -> None:
    chosen = split_rows({"train": table(0, 20)}, sizes(5, 5, 5), ["text"], 0)["train"]
    assert [f"t{number}" for number in chosen.index] == chosen["text"].tolist()


@pytest.mark.parametrize(
    ("tables", "wanted", "words"),
    [
        (
            {"train": table(0, 10)},
            sizes(8, 2, 2),
            ["10 different rows", "train_size=8", "such as test_size=1, validation_size=1, "],
        ),
        ({"train": table(0, 10)}, sizes(None, 5, 5), ["train_size", "no rows"]),
        ({"train": table(0, 10)}, sizes(5, None, 0), ["validation_size", "validation_rows"]),
        (
            {"train": table(0, 10), "test": table(0, 2), "validation": table(0, 2)},
            sizes(1, 1, 1),
            ["validation_size", "no rows"],
        ),
    ],
)
def test_messages(
    tables: dict[str, pd.DataFrame], wanted: dict[str, int | None], words: list[str]
) -> None:
    with pytest.raises(UserError) as caught:
        split_rows(tables, wanted, ["text"], 0)
    for word in words:
        assert word in str(caught.value)
