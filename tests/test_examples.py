"""Every public class has an example in its docstring; the examples run, or are sound YAML."""

import doctest
import inspect
import pkgutil
import sys
from importlib import import_module
from pathlib import Path
from textwrap import dedent

import pytest
import yaml

import zolit

PACKAGES = (
    "zolit.callbacks",
    "zolit.coordinates",
    "zolit.datamodules",
    "zolit.evaluations",
    "zolit.models.adapters",
    "zolit.optim",
    "zolit.strategies",
)
"""What they list is public."""

MODULES = (
    "zolit.objectives.base",
    "zolit.objectives.loss_function",
    "zolit.objectives.option_scoring",
)
"""What they define without an underscore is public."""


ROOMS = (
    "zolit.coordinates",
    "zolit.formats",
    "zolit.kernels",
    "zolit.noise",
    "zolit.strategies",
    "zolit.supports",
    "zolit.tensors",
)
"""All examples of these packages and modules run, also those of functions."""


def modules() -> list[str]:
    found = list(ROOMS)
    for name in ROOMS:
        inside = getattr(import_module(name), "__path__", [])
        found += [one.name for one in pkgutil.walk_packages(inside, f"{name}.")]
    return [name for name in found if ">>>" in Path(import_module(name).__file__ or "").read_text()]


def public_classes() -> list[type]:
    found = [getattr(zolit, name) for name in dir(zolit)]
    for name in PACKAGES:
        package = import_module(name)
        found += [getattr(package, one) for one in package.__all__]
    for name in MODULES:
        own = vars(import_module(name)).items()
        found += [
            one for key, one in own if getattr(one, "__module__", "") == name and key[0] != "_"
        ]
    classes = {one for one in found if inspect.isclass(one)}
    return sorted(classes, key=lambda cls: (cls.__module__, cls.__qualname__))


@pytest.mark.parametrize("cls", public_classes(), ids=lambda cls: cls.__qualname__)
def test_a_public_class_has_an_example(cls: type) -> None:
    text = inspect.getdoc(cls) if cls.__doc__ else ""
    assert "Example:\n" in str(text), f"{cls.__module__}.{cls.__qualname__} has no Example"
    example = str(text).partition("Example:\n")[2]
    if ">>>" not in example:
        _, _, block = example.partition("::\n")
        assert isinstance(yaml.safe_load(dedent(block)), dict)
        return
    module = sys.modules[cls.__module__]
    tests = doctest.DocTestFinder(recurse=False).find(cls, cls.__qualname__, module)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for one in tests:
        runner.run(one)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(import_module(name), optionflags=flags).failed == 0
