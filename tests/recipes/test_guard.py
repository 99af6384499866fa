"""A configuration makes the parts of a run and does nothing else."""

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import changed, recipe, refusal, write
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback

from zolit.commands.given import read_given
from zolit.errors import UserError
from zolit.recipes.guard import MOST_NODES, check_yaml, load_yaml
from zolit.runs.differences import find_differences

CALLS: list[Any] = []


def function(*args: Any, **kwargs: Any) -> None:
    CALLS.append((args, kwargs))


class Anything(Callback):
    """A callback with an argument of any type."""

    def __init__(self, value: Any = None) -> None:
        CALLS.append(value)


class NoPart:
    def __init__(self) -> None:
        CALLS.append("made")


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


HERE = __name__
POPEN = {"class_path": "subprocess.Popen", "init_args": {"args": ["true"]}}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model.optimizer": {"class_path": f"{HERE}.function"}}, "which is no class"),
        ({"model.optimizer": f"{HERE}.function"}, "to be a function that returns Optimizer"),
        ({"model.lr_scheduler": {"class_path": f"{HERE}.function"}}, "which is no class"),
        (
            {
                "model.lr_scheduler": {
                    "class_path": "torch.optim.lr_scheduler.LambdaLR",
                    "init_args": {"lr_lambda": f"{HERE}.function"},
                }
            },
            "model.lr_scheduler.lr_lambda: got 'function', which is no class",
        ),
        (
            {
                "trainer.callbacks": [
                    {
                        "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                        "init_args": {"setup": f"{HERE}.function"},
                    }
                ]
            },
            "which is no class",
        ),
        ({"model.optimizer": {"class_path": "os.system"}}, "nothing that a configuration may"),
        ({"model.quantizer": POPEN}, "nothing that a configuration may"),
        ({"trainer.plugins": [{"class_path": f"{HERE}.NoPart"}]}, "class of another kind"),
        ({"model.quantizer": {"class_path": f"{HERE}.NoPart"}}, "class of another kind"),
    ],
)
def test_what_is_no_part_is_not_called(
    options: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(changed(recipe(tmp_path, tmp_path), options), tmp_path / "recipe.yaml")
    assert sentence in refusal(capsys, "fit", "--config", file)
    assert CALLS == []


@pytest.mark.parametrize("spec", [POPEN, {"class_path": f"{HERE}.NoPart"}])
def test_nothing_is_made_for_an_argument_of_any_type(
    spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = {"class_path": f"{HERE}.Anything", "init_args": {"value": spec}}
    options = {"trainer.callbacks": [part]}
    file = write(changed(recipe(tmp_path, tmp_path), options), tmp_path / "recipe.yaml")
    refusal(capsys, "fit", "--config", file)  # at the latest because there is no model
    assert "made" not in CALLS


@pytest.mark.parametrize(
    "text",
    [
        f"model: !!python/object/apply:{HERE}.function [1]",
        f"model: !!python/object/new:{HERE}.NoPart []",
        f"model: !!python/name:{HERE}.function",
        "model: !!python/module:antigravity",
    ],
)
def test_tags_make_no_objects(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    assert "is not valid YAML" in refusal(capsys, "fit", "--config", str(file))
    with pytest.raises(UserError, match="not valid YAML"):
        load_yaml(text, "the journal")
    assert CALLS == []
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("value", ["!!int", "!!bool maybe", "!!timestamp now", "0x_", "!!float x"])
def test_values_that_do_not_fit_their_tag(
    value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"trainer:\n  max_steps: {value}\n"
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    assert "is not valid YAML in line 2" in refusal(capsys, "fit", "--config", str(file))
    with pytest.raises(UserError, match="line 2"):
        load_yaml(text, "the journal")


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, f"more than {MOST_NODES} values"),
        ("model: &a {source: *a}", "nested too deeply"),
        (f"model: {'[' * 9000}{']' * 9000}", "nested too deeply"),
    ],
)
def test_a_configuration_that_never_ends_is_refused_at_once(
    text: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    began = time.process_time()
    assert sentence in refusal(capsys, "fit", "--config", str(file))
    with pytest.raises(UserError, match=sentence):
        find_differences("model: {}", text)
    assert time.process_time() - began < 20


def test_a_key_twice_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("model:\n  optimizer: {lr: 1}\n  seed: 1\n  optimizer: {lr: 2}\n")
    said = refusal(capsys, "fit", "--config", str(file))
    assert "has 'optimizer' a second time in one group, in line 4" in said
    with pytest.raises(UserError, match="a second time"):
        load_yaml(file.read_text(), "the journal")
    check_yaml("a: {lr: 1}\nb: {lr: 2}\nc: {1: x, '1': y}\nd: &d {e: 1}\nf: {<<: *d, e: 2}", "r")


def test_aliases_may_be_used() -> None:
    text = "a: &a {lr: 0.1}\nb: *a\nc: [*a, *a]"
    check_yaml(text, "recipe")
    assert load_yaml(text, "recipe")["c"] == [{"lr": 0.1}, {"lr": 0.1}]


WORDS = st.sampled_from(
    ["model", "optimizer", "class_path", "init_args", "lr", "*a", "&a", "!!int"]
)
TREES = st.recursive(
    st.one_of(WORDS, st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(WORDS, st.integers()), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(text=st.one_of(st.text(max_size=80), TREES.map(str), st.binary(max_size=60)))
def test_any_text(text: str | bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Read, or refused in a sentence; nothing else is raised."""
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    file.write_bytes(data)
    for work in (
        lambda: read_given(["fit", "--config", str(file)]),
        lambda: find_differences("model: {a: 1}", data.decode("utf-8", "replace")),
    ):
        with suppress(UserError):
            work()
