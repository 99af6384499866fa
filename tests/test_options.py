"""What options declare for a run that is resumed, and what follows from it."""

import inspect
from typing import Any, ClassVar

import pytest
import yaml

from zolit.options import OnResume, on_resume
from zolit.recipes.parts import parts_of
from zolit.runs.differences import Changes, find_differences
from zolit.strategies import ConstantQueries, DensePerturber
from zolit.training.zero_order import ZeroOrderModule


class Spread(DensePerturber):
    """A part of a user's own, which declares one of its two arguments."""

    on_resume: ClassVar[dict[str, OnResume]] = {"told": OnResume.FREE}

    def __init__(self, spread: float = 1.0, told: bool = False, eps: float | None = None) -> None:
        super().__init__(eps)


def changes(option: str, old: Any, new: Any, part: type = Spread) -> dict[str, Changes]:
    """What one changed option of a perturber comes to, of each kind that is not empty."""
    path = f"{part.__module__}.{part.__qualname__}"
    before, now = (
        yaml.safe_dump({"model": {"perturber": {"class_path": path, "init_args": {option: one}}}})
        for one in (old, new)
    )
    return {name: found for name, found in vars(find_differences(before, now)).items() if found}


@pytest.mark.parametrize(
    ("option", "kind"),
    [("spread", "past"), ("nothing of the kind", "past"), ("told", "future"), ("eps", "future")],
)
def test_an_undeclared_option_of_a_users_part_counts_as_replayed(option: str, kind: str) -> None:
    found = changes(option, 1.0, 2.0)
    assert found == {kind: {f"model.perturber.init_args.{option}": (1.0, 2.0)}}


def test_options_of_an_unknown_class_count_as_replayed() -> None:
    part = "{class_path: no.such.Perturber, init_args: {eps: %d}}"
    found = find_differences(*(f"model: {{perturber: {part % eps}}}" for eps in (1, 2)))
    assert found.past == {"model.perturber.init_args.eps": (1, 2)}


def test_another_class_counts_as_replayed_unless_the_module_says_otherwise() -> None:
    perturber = "model: {perturber: {class_path: %s}}"
    found = find_differences(perturber % "one.A", perturber % "one.B")
    assert found.past == {"model.perturber.class_path": ("one.A", "one.B")}
    queries = "model: {query_scheduler: {class_path: %s}}"
    found = find_differences(queries % "one.A", queries % "one.B")
    assert found.future == {"model.query_scheduler.class_path": ("one.A", "one.B")}


def test_an_undeclared_option_of_a_users_module_counts_as_replayed() -> None:
    class Mine(ZeroOrderModule):
        pass

    before, now = (f"model: {{depth: {one}, seed: {one}}}" for one in (1, 2))
    found = find_differences(before, now, module=Mine)
    assert found.past == {"model.depth": (1, 2)}
    assert found.future == {"model.seed": (1, 2)}


def test_declarations_are_inherited_and_replayed_by_default() -> None:
    assert on_resume(Spread, "eps") is OnResume.FREE
    assert on_resume(DensePerturber, "distribution") is OnResume.REPLAYED
    assert on_resume(ConstantQueries, "n") is OnResume.REPLAYED  # the module frees the whole part
    assert on_resume(None, "eps") is OnResume.REPLAYED


def test_the_module_declares_options_that_it_has() -> None:

    assert set(ZeroOrderModule.on_resume) <= set(inspect.signature(ZeroOrderModule).parameters)


def test_parts_of_the_module() -> None:
    assert set(parts_of(ZeroOrderModule)) >= {
        "adapter",
        "estimator",
        "lr_scheduler",
        "mask",
        "objective",
        "optimizer",
        "perturber",
        "quantizer",
        "query_scheduler",
    }
    assert not {"source", "tune", "dtype", "seed", "start_from"} & set(parts_of(ZeroOrderModule))
