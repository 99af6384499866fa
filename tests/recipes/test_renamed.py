"""Recipes and journals of earlier versions are read by the names of now."""

import pytest

from zolit.commands.given import as_now
from zolit.recipes.guard import load_yaml
from zolit.recipes.parts import module_of
from zolit.recipes.renamed import with_new_names
from zolit.runs.differences import Differences, find_differences

RECIPE = """
model:
  source: {path: nowhere}
  quantizer: {class_path: Int8}
  perturber: {class_path: ScalePerturber}
  mask:
    class_path: RandomMask
    init_args: {density: 0.25, seed: 3}
"""
NOW = RECIPE.replace("density", "fraction")


def test_by_its_new_name() -> None:
    assert load_yaml(RECIPE, "a") == load_yaml(NOW, "a")
    assert module_of(RECIPE).mask.fraction == 0.25
    listed = [{"class_path": "zolit.strategies.RandomMask", "init_args": {"density": 1}}]
    assert with_new_names({"a": listed})["a"][0]["init_args"] == {"fraction": 1}


def test_what_needs_no_other_name_is_handed_back() -> None:
    now = {"class_path": "Other", "init_args": {"density": 1}}
    assert with_new_names(now) is now
    both = {"class_path": "RandomMask", "init_args": {"density": 1, "fraction": 1}}
    assert with_new_names(both) is both, "to be refused"
    assert as_now(both) is both


def test_a_run_of_before_is_resumed_by_a_recipe_of_now() -> None:
    assert find_differences(RECIPE, NOW) == Differences()
    other = NOW.replace("0.25", "0.5")
    assert list(find_differences(RECIPE, other).past) == ["model.mask.init_args.fraction"]


@pytest.mark.parametrize("content", [None, 5, "a", [1, [2]], {}])
def test_anything(content: object) -> None:
    assert with_new_names(content) == content
