"""Arguments of wrong kinds and out of range: refused at the call, in a sentence."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pytest
import torch
from torch import nn

import zolit
from zolit import UserError
from zolit.arguments import Checked, at_least, checked, in_unit_range, positive


class Anything(Protocol):
    size: int


@checked
def takes(
    count: int = 1,
    eps: float = 0.1,
    most: float = math.inf,
    name: str = "a",
    flag: bool = False,
    words: list[str] | None = None,
    names: Sequence[str] = (),
    table: Mapping[str, int] | None = None,
    kind: Literal["one", "two"] = "one",
    make: Callable[[int], int] | None = None,
    file: str | Path | None = None,
    part: zolit.Quantizer | None = None,
    other: Anything | None = None,
    *more: int,
    **rest: str,
) -> str:
    """Of every kind that zolit has."""
    return "taken"


@pytest.mark.parametrize(
    "given",
    [
        {"count": np.int64(3), "eps": 1, "most": math.inf},
        {"count": torch.tensor(3), "eps": np.float32(0.5)},
        {"eps": torch.tensor(0.5), "flag": np.True_, "name": Path("a")},
        {"words": ("a", "b"), "names": ["a"], "table": {"a": "any value"}},
        {"kind": "two", "make": len, "file": Path("a"), "part": zolit.Int8()},
        {"other": 5, "rest": 7, "count": 0},
        {"words": None, "file": "a"},
    ],
    ids=lambda given: " ".join(given),
)
def test_kinds_that_fit(given: dict[str, Any]) -> None:
    assert takes(**given) == "taken"
    assert takes(1, 0.1, 0.2, "a", False, None, (), None, "one", None, None, None, None, 1, 2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"count": "a"}, "count of takes: got 'a', expected a whole number; leave it out for 1"),
        ({"count": 1.5}, "got 1.5, expected a whole number"),
        ({"count": True}, "got True, expected a whole number"),
        ({"eps": "a"}, "eps of takes: got 'a', expected a number; leave it out for 0.1"),
        ({"eps": np.ones(2)}, "eps of takes: got a ndarray, expected a number"),
        ({"name": 5}, "got 5, expected a text"),
        ({"flag": "yes"}, "got 'yes', expected True or False"),
        ({"words": "linear"}, "got 'linear', expected a list of texts or None"),
        ({"words": [1]}, r"got \[1\], expected a list of texts"),
        ({"names": "abc"}, "got 'abc', expected a list of texts"),
        ({"table": ["a"]}, r"got \['a'\], expected a dict or None"),
        ({"kind": "three"}, "got 'three', expected one of 'one', 'two'"),
        ({"make": 5}, "got 5, expected a function or None"),
        ({"file": 5}, "got 5, expected a text or a path or None"),
        ({"part": zolit.Int8}, r"got the class Int8, .*; give an object of it: Int8\(\.\.\.\)"),
        ({"part": "int8"}, "got 'int8', expected a Quantizer or None; give an object of Int8"),
        ({"part": nn.Linear(1, 1)}, "got a Linear, expected a Quantizer .* of Float8, GPTQ, HQQ"),
    ],
    ids=str,
)
def test_kinds_that_do_not_fit(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        takes(**given)


def test_python_says_what_is_missing() -> None:
    @checked
    def needs(one: int) -> None: ...

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'one'"):
        needs()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'two'"):
        needs(1, two=2)  # type: ignore[call-arg]


def test_a_part_of_ones_own_is_checked_and_keeps_its_signature() -> None:
    class Own(zolit.Mask):
        def __init__(self, share: float, unknown: "NotThere" = None) -> None:  # type: ignore # noqa: F821
            self.share = share

        def choose(self, path: str, weight: Any, block: int, blocks: int) -> zolit.Support:
            return zolit.ALL

    class Known(Checked):
        def __init__(self, share: float = 0.1) -> None:
            self.share = share

    assert list(inspect.signature(Own).parameters) == ["share", "unknown"]
    assert Own("a").share == "a", "annotations that cannot be read tell nothing"
    with pytest.raises(UserError, match="share of Known: got 'a', expected a number"):
        Known("a")  # type: ignore[arg-type]


SOURCE = zolit.ModelSource("nowhere")
ROWS = zolit.FileRows("nowhere.csv")
WRONG: dict[str, tuple[Callable[..., Any], str]] = {
    "a model": (
        lambda: zolit.wrap("str", zolit.Int8(), zolit.ScalePerturber()),  # type: ignore
        "model of wrap: got 'str', expected a Module of torch",
    ),
    "a class": (
        lambda: zolit.ZeroOrderModule(SOURCE, zolit.Int4, zolit.ScalePerturber()),  # type: ignore
        "quantizer of ZeroOrderModule: got the class Int4, expected a Quantizer; give an object",
    ),
    "a class of another kind": (
        lambda: zolit.FirstOrderModule(SOURCE, zolit.ScalePerturber()),  # type: ignore
        "quantizer of FirstOrderModule: got a ScalePerturber, expected a Quantizer",
    ),
    "a source": (
        lambda: zolit.ZeroOrderModule("a", zolit.Int4(), zolit.ScalePerturber()),  # type: ignore
        "source of ZeroOrderModule: got 'a', expected a ModelSource; give an object of ModelSource",
    ),
    "tune": (
        lambda: zolit.ZeroOrderModule(
            SOURCE,
            zolit.Int4(),
            zolit.ScalePerturber(),
            tune="linear",  # type: ignore
        ),
        "tune of ZeroOrderModule: got 'linear', expected a list of texts",
    ),
    "eps": (
        lambda: zolit.ScalePerturber(eps="a"),  # type: ignore
        "eps of ScalePerturber: got 'a', expected a number",
    ),
    "lr": (
        lambda: zolit.ZOSGD([torch.zeros(1)], lr="a"),  # type: ignore
        "lr of ZOSGD: got 'a', expected a number",
    ),
    "words": (
        lambda: zolit.Task("{text}", ["bad", "good"]),  # type: ignore
        r"words of Task: got \['bad', 'good'\], expected a dict",
    ),
    "a run": (lambda: zolit.load(5), "run of load: got 5, expected a text or a path"),  # type: ignore
    "a loss": (
        lambda: zolit.LossFunction(5),  # type: ignore
        "function of LossFunction: got 5, expected a function",
    ),
    "data": (
        lambda: zolit.fit(object(), ROWS, "run"),  # type: ignore
        "module of fit: got a object, expected a LightningModule of lightning",
    ),
    "rows": (
        lambda: zolit.PromptDataModule("sst2", "rows.csv", SOURCE),  # type: ignore
        "rows of PromptDataModule: got 'rows.csv', expected a RowSource; give an object of",
    ),
    "a file": (lambda: zolit.FileRows(5), "path of FileRows: got 5, expected a text"),  # type: ignore
    "rank": (lambda: zolit.LoRA(rank="8"), "rank of LoRA: got '8', expected a whole number"),  # type: ignore
    "prompts": (
        lambda: zolit.generate("run", "The film"),
        "prompts of generate: got 'The film', expected a list of texts",
    ),
}


@pytest.mark.parametrize(("call", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_public_calls(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        call()


def test_every_part_of_zolit_checks_its_arguments() -> None:
    """Each public class with a constructor of its own refuses an object of no kind at all."""
    strange, tried = object(), 0
    for name in dir(zolit):
        cls = getattr(zolit, name, None)
        if not (inspect.isclass(cls) and issubclass(cls, Checked)) or inspect.isabstract(cls):
            continue
        for argument, parameter in inspect.signature(cls).parameters.items():
            if parameter.annotation in (int, float, str, bool):
                tried += 1
                with pytest.raises((UserError, TypeError), match=argument):
                    cls(**{argument: strange})
    assert tried > 40


def test_ranges() -> None:
    assert (at_least("n", 1), in_unit_range("f", 1.0), positive("eps", 0.5, "try 1")) == (1, 1, 0.5)
    for call, said in (
        (lambda: at_least("n", 0, instead="use 1"), "n must be at least 1, got 0; use 1"),
        (lambda: at_least("n", math.nan), "n must be at least 1, got nan"),
        (lambda: at_least("n", math.inf), "n must be at least 1, got inf"),
        (lambda: in_unit_range("f", 0.0), r"f must be in \(0, 1\], got 0.0; try 0.01"),
        (lambda: in_unit_range("f", math.nan), r"f must be in \(0, 1\], got nan"),
        (lambda: positive("eps", math.inf, "try 1"), "eps must be a positive number, got inf"),
    ):
        with pytest.raises(UserError, match=said):
            call()


def test_iterables_are_not_used_up() -> None:
    @checked
    def total(numbers: Iterable[int]) -> int:
        return sum(numbers)

    assert total(iter([1, 2])) == 3
