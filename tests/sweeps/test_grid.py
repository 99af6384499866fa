"""The text of a grid, and its points."""

import pytest

from zolit.caller import as_command
from zolit.errors import UserError
from zolit.sweeps.grid import points_of, read_grid


def test_values_keys_and_brackets() -> None:
    text = "lr=1e-3, 0.1 ,model.tune=[linear,norm],'a,b'"
    assert read_grid(text) == {"lr": ["1e-3", "0.1"], "model.tune": ["[linear,norm]", "'a,b'"]}
    assert read_grid("words={a: x=1}") == {"words": ["{a: x=1}"]}


@pytest.mark.parametrize("text", ["", "lr", "1,2", "lr=", "lr=1,,2", "lr=1,eps=", "=1", ",lr=1"])
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--grid: got .*expected KEY=VALUE,VALUE"):
        read_grid(text)


def test_a_key_twice_is_refused() -> None:
    with pytest.raises(UserError, match="got 'lr' twice"):
        read_grid("lr=1,eps=2,lr=3")


def test_every_combination_the_last_key_fastest() -> None:
    points = points_of({"lr": [1, 2], "eps": ["a"], "seed": [0, 1]})
    assert [tuple(point.values.values()) for point in points] == [
        (1, "a", 0),
        (1, "a", 1),
        (2, "a", 0),
        (2, "a", 1),
    ]
    assert points[0].choice == points[1].choice != points[2].choice
    assert points[3].name == "lr=2,eps=a,seed=1"
    assert points[3].told() == "lr 2, eps a, seed 1"


def test_names_of_folders_are_safe_and_unique() -> None:
    points = points_of({"model.source.path": ["a/b", "a_b", "../c"]})
    names = [point.name for point in points]
    assert len({*names}) == 3
    assert not any(sign in name for name in names for sign in "/\\: ")


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({}, "is empty"),
        ({"lr": []}, "expected a list of values"),
        ({"lr": "0.1"}, "expected a list of values"),
        ({"lr": [1, 1]}, "got lr 1 twice"),
        ({"lr": [None]}, "expected numbers, texts or truth values"),
    ],
)
def test_grids_that_are_refused(grid: dict[str, list[object]], sentence: str) -> None:
    with pytest.raises(UserError, match=f"grid: .*{sentence}"):
        points_of(grid)
    with as_command(), pytest.raises(UserError, match="--grid: "):
        points_of(grid)
