"""Keeps a configuration from running code that no ``class_path`` names, and from endless reading.

Recipes are often written by others. A recipe names the parts of a run as classes. jsonargparse
would also accept names of functions, build classes for arguments of any type, and expand YAML's
aliases.
"""

import sys
from collections.abc import Iterable
from inspect import isclass, isroutine
from typing import Any

import yaml
from jsonargparse import Namespace, set_parsing_settings

from zolit.errors import UserError
from zolit.recipes.renamed import with_new_names

MOST_NODES = 100_000
"""Most values of a configuration after its aliases are expanded."""


def confine_parser() -> None:
    """Confine the parsers of this process, before they read a configuration.

    They then build a class only for an option that expects one, build no class of Python's standard
    library, and read configurations from files only.
    """
    set_parsing_settings(
        instantiate_subclass_spec_in_any=False,
        config_read_mode_urls_enabled=False,
        config_read_mode_fsspec_enabled=False,
        import_path_denylist=sorted(sys.stdlib_module_names - {"__main__"}),
    )


def check_parts(config: Any, defaults: Iterable[Any], key: str = "") -> None:
    """Refuse a configuration that names a function for an option that expects a class.

    Args:
        config: as parsed, before any part of it is made.
        defaults: callables that are defaults of options.
        key: dotted name of ``config`` in the whole.

    Raises:
        UserError: naming the option.
    """
    known = {id(one) for one in defaults}
    if isinstance(config, Namespace):
        config = vars(config)
    if isinstance(config, dict):
        _check_class(config.get("class_path"), key)
        items: Iterable[tuple[Any, Any]] = config.items()
    elif isinstance(config, list | tuple):
        items = enumerate(config)
    else:
        if isroutine(config) and id(config) not in known:
            raise _no_class(key, getattr(config, "__qualname__", str(config)))
        return
    for name, value in items:
        check_parts(value, defaults, f"{key}.{name}" if key else str(name))


def _check_class(path: Any, key: str) -> None:
    """Whether an import path that the parser has accepted names a class."""
    if not isinstance(path, str) or "." not in path:
        return
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    if not isclass(found):
        raise _no_class(key, path)


def _no_class(key: str, got: str) -> UserError:
    key = key.replace(".init_args", "")
    return UserError(
        f"{key}: got {got!r}, which is no class; a configuration names classes only, a function "
        "can be called by a class of your own"
    )


def check_yaml(text: str, name: str) -> None:
    """Refuse YAML that takes too long to read, or raises other errors than YAML's own.

    Errors of syntax are not refused here: the parser reports them with their place.

    Args:
        text: of a configuration.
        name: where it is from, for the message.

    Raises:
        UserError: if it has more than `MOST_NODES` values after its aliases are expanded, contains
            itself, is nested too deeply, has a key twice in one mapping, or has a value that does
            not fit its tag.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        nodes = 0 if root is None else _count(root, {}, set())
    except yaml.YAMLError:
        return  # the parser says what is wrong
    except _UnfitError as error:
        raise UserError(
            f"--config: {name!r} is not valid YAML in line {error.node.start_mark.line + 1}, "
            f"{error.node.value!r} is no {error.node.tag.rpartition(':')[2]}; put text in quotes"
        ) from error
    except _TwiceError as error:
        raise UserError(
            f"--config: {name!r} has {error.node.value!r} a second time in one group, in line "
            f"{error.node.start_mark.line + 1}; keep one of them"
        ) from error
    except RecursionError as error:
        raise UserError(
            f"--config: {name!r} is nested too deeply; expected groups of options"
        ) from error
    if nodes > MOST_NODES:
        raise UserError(
            f"--config: {name!r} holds more than {MOST_NODES} values with its aliases written out; "
            "write a recipe of its own for each run"
        )


def _count(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """Number of values of a node after its aliases are expanded; each node is read once."""
    if id(node) in above:
        raise RecursionError("it contains itself")
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node)
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        else:
            _read(node)
        above.add(id(node))
        known[id(node)] = 1 + sum(_count(child, known, above) for child in children)
        above.remove(id(node))
    return known[id(node)]


class _TwiceError(Exception):
    """A key that its mapping has already; PyYAML would silently take the last value."""

    def __init__(self, node: yaml.Node) -> None:
        self.node = node


def _refuse_twins(node: yaml.MappingNode) -> None:
    found = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            continue
        if (key.tag, key.value) in found:
            raise _TwiceError(key)
        found.add((key.tag, key.value))


class _UnfitError(Exception):
    """A value that does not fit its tag."""

    def __init__(self, node: yaml.Node) -> None:
        self.node = node


def _read(node: yaml.Node) -> None:
    """Try to read a single value.

    PyYAML assumes that a text fits its tag. It raises IndexError for ``!!int`` without a text,
    KeyError for ``!!bool maybe``, and ValueError for ``0x_``.
    """
    try:
        yaml.SafeLoader("").construct_object(node)
    except (ArithmeticError, AttributeError, LookupError, ValueError) as error:
        raise _UnfitError(node) from error


def load_yaml(text: str, name: str) -> dict[str, Any]:
    """Read a configuration without the parser of the command line.

    Args:
        text: YAML.
        name: where it is from, for the message.

    Raises:
        UserError: if it is no mapping, no YAML, or `check_yaml` refuses it.
    """
    check_yaml(text, name)
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(
            f"{name}: is not valid YAML; use a configuration that zolit wrote"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{name}: holds no options; use a configuration that zolit wrote")
    current: dict[str, Any] = with_new_names(found)
    return current
