"""From what jsonargparse says of a refused configuration to one sentence for the user."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from zolit.cli_help import COMMANDS, RECIPE_COMMANDS
from zolit.config_guard import check_yaml
from zolit.errors import UserError

_LISTED = 8

_CLASS_FAULTS = (
    (r"Importing '([^']*)' is not allowed", "is nothing that a configuration may name"),
    (r"Expected a dot import path string: (\S+)", "is not a known name"),
    (r"Import path (\S+) does not correspond to a subclass", "is a class of another kind"),
    (r"Not a valid subclass of \w+\. Got value: (\S+)", "does not name a class"),
    (r"given class_path '([^']*)': (.*?)\.?(?= - |$)", "cannot be imported ({1})"),
)

_TYPE_FAULT = r"Expected an? (.*?)\. Got value: (.*?)\.?(?: - Expected| Got value:| Given value|$)"


class Given:
    """What the user wrote, by dotted key: configuration files, then options; later ones win.

    Args:
        args: the arguments after the subcommand.
    """

    def __init__(self, args: list[str]) -> None:
        self.values: dict[str, Any] = {}
        self.configs: list[str] = []
        position = 0
        while position < len(args):
            name, equals, value = args[position].partition("=")
            if not equals and position + 1 < len(args):
                value = args[position + 1]
                position += not value.startswith("--")
            position += 1
            if name in ("-c", "--config"):
                self.configs.append(value)
                self._read(value)
            elif name.startswith("--"):
                self.values[name.removeprefix("--")] = value

    def _read(self, path: str) -> None:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return  # the parser names the fault
        check_yaml(text, path)
        try:
            content = yaml.safe_load(text)
        except (RecursionError, yaml.YAMLError):
            return  # likewise
        self._flatten("", content)

    def _flatten(self, prefix: str, content: Any) -> None:
        if isinstance(content, dict):
            items: Iterable[tuple[Any, Any]] = content.items()
        elif isinstance(content, list) and prefix:
            items = enumerate(content)
        else:
            self.values[prefix] = content
            return
        for name, value in items:
            self._flatten(f"{prefix}.{name}" if prefix else str(name), value)

    def key_ending(self, leaf: str) -> str:
        """The last given key that ends in ``leaf``; ``leaf`` itself if there is none."""
        found = [key for key in self.values if f".{key}".endswith(f".{leaf}")]
        return found[-1] if found else leaf

    def class_above(self, key: str) -> str | None:
        """Name of the class whose argument ``key`` is, as given."""
        parent = key.rpartition(".")[0].removesuffix(".init_args")
        for name in (f"{parent}.class_path", parent):
            if isinstance(value := self.values.get(name), str):
                return value.rpartition(".")[2]
        return None


def check_command(args: list[str]) -> None:
    """Whether the first argument is a command.

    Raises:
        UserError: naming all commands.
    """
    known = f"the commands are {', '.join(COMMANDS)}"
    if not args:
        raise UserError(f"a command is missing; {known}; see zolit --help.")
    first = args[0]
    if first in COMMANDS:
        return
    if first.startswith("-"):
        raise UserError(
            f"{first.partition('=')[0]}: got {' '.join(args[:3])!r}, expected the command first; "
            f"write: zolit fit --config FILE; {known}."
        )
    close = difflib.get_close_matches(first, COMMANDS, n=3, cutoff=0.5)
    near = f" (nearest: {', '.join(close)})" if close else ""
    raise UserError(f"there is no command {first!r}{near}; {known}; see zolit --help.")


def read_given(args: list[str]) -> Given:
    """What follows the command.

    Raises:
        UserError: there is no command, or it does not come first.
    """
    check_command(args)
    return Given(args[1:])


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The `UserError` that a chain of exceptions began with, if it did."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def explain(message: str, given: Given, known: Iterable[str], bases: Mapping[str, Any]) -> str:
    """One sentence: the argument, what it got, what is expected or near.

    Args:
        message: what the parser said.
        given: what the user wrote.
        known: dotted names of all options.
        bases: the annotation of each option that takes a class, by dotted name.
    """
    # A fault inside a class is told by each parser around it: the innermost one names it.
    _, inner, detail = " ".join(message.split()).rpartition('Parser key "')
    message = inner + detail if inner else detail
    options = sorted({_public(name) for name in known})
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        if not found[1].startswith("--"):
            return f"got the argument {found[1]!r}, expected options such as --config FILE."
        return _unknown_option(found[1].removeprefix("--").partition("=")[0], given, options, bases)
    if found := re.search(r"[Oo]ption '([^']*)'( is not accepted)?", message):
        return _unknown_option(found[1], given, options, bases)
    if found := re.search(r"arguments are required: ([\w.]+)", message):
        name = re.sub(rf"^({'|'.join(RECIPE_COMMANDS)})\.", "", found[1])
        return _required(next((key for key in bases if key.endswith(f".{name}")), name))
    if found := re.search(r"(?:Path is not a file|File does not exist): '([^']*)'", message):
        return f"--config: got {found[1]!r}, expected an existing YAML file."
    if "Problems parsing config" in message or "Unexpected config" in message:
        return _not_yaml(message, given)
    if found := re.search(r'Key "(\w+)\.(\w+)" not found in namespace', message):
        return f"{found[1]}: expected a group of options, among them {found[1]}.{found[2]}."
    key = re.match(r'Parser key "([^"]*)"', message)
    if key is None:
        return f"{message.rstrip('.')}."
    for pattern, reason in _CLASS_FAULTS:
        if found := re.search(pattern, message):
            return _unknown_class(_public(key[1]), found, reason, given, bases)
    if found := re.search(_TYPE_FAULT, message):
        return _wrong_type(given.key_ending(key[1]), found[1], found[2])
    return _union(given.key_ending(key[1]), message)


def _unknown_option(name: str, given: Given, options: list[str], bases: Mapping[str, Any]) -> str:
    full = given.key_ending(name)
    class_name = given.class_above(full)
    for annotation in bases.values():
        for candidate in subclasses(annotation):
            if candidate.__name__ == class_name:
                leaf = full.rpartition(".")[2]
                return f"unknown option {_public(full)}; {_near(leaf, arguments(candidate))}."
    group = full.rpartition(".")[0]
    if not group:
        return f"unknown option {full}; {_near(full, {one.partition('.')[0] for one in options})}."
    siblings = [option for option in options if option.startswith(f"{group}.")]
    return f"unknown option {full}; {_near(_public(full), siblings or options)}."


def _unknown_class(
    key: str, found: re.Match[str], reason: str, given: Given, bases: Mapping[str, Any]
) -> str:
    got = found[1]
    # The parser names the outermost argument; the one that got this value may lie deeper.
    places = [_public(name) for name, value in given.values.items() if value == got]
    key = next((name for name in places if f".{key}." in f".{name}."), key)
    kind = bases.get(re.sub(r"\.\d+$", "", key))  # an item of a list
    choices = [cls.__name__ for cls in subclasses(kind)]
    return (
        f"{key}: {got!r} {reason.format(*found.groups())}; "
        f"{_near(got.rpartition('.')[2], choices)}; a class of your own is named by its import "
        "path, package.module.Class."
    )


def _required(key: str) -> str:
    return f"{key}: is required and was not given; set it in a --config file or as --{key}."


def _wrong_type(key: str, expected: str, got: str) -> str:
    if got == "None" and "NoneType" not in expected:
        return _required(_public(key))
    return f"{_public(key)}: got {got!r}, expected {_plain_type(expected)}."


def _union(key: str, message: str) -> str:
    got = re.search(r"Given value: (.*)$", message)
    expected = re.search(r"Subtypes: \[(.*?)\] Errors", message)
    if got is None or expected is None:
        return f"{_public(key)}: {message.rstrip('.')}."
    return f"{_public(key)}: got {got[1]!r}, expected one of {_plain_type(expected[1])}."


def _not_yaml(message: str, given: Given) -> str:
    name = given.configs[-1] if given.configs else "the configuration"
    place = re.search(r"line (\d+), column (\d+)", message)
    where = f" (line {place[1]}, column {place[2]})" if place else ""
    fault = "is not valid YAML" if "Problems" in message else "holds no options"
    return f"--config: {name!r} {fault}{where}; expected `group: {{option: value}}` in YAML."


def _plain_type(text: str) -> str:
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"(?:typing\.)?Literal\[(.*?)\]", r"one of \1", text)
    return text.replace("NoneType", "null")


def _public(key: str) -> str:
    """The key as one writes it on the command line."""
    return key.replace(".init_args.", ".").removesuffix(".class_path").removesuffix(".init_args")


def _near(name: str, names: Iterable[str]) -> str:
    choices = sorted(set(names))
    if close := difflib.get_close_matches(name, choices, n=3, cutoff=0.5):
        return f"nearest: {', '.join(close)}"
    if not choices:
        return "nothing of the kind is accepted here"
    return f"expected one of {', '.join(choices[:_LISTED])}{', ...' * (len(choices) > _LISTED)}"


def subclasses(annotation: Any) -> list[type]:
    """Concrete classes that an annotation accepts: subclasses of the classes named in it.

    Looks into unions, lists and what a ``Callable`` returns.
    """
    if get_origin(annotation) is None:
        if not isinstance(annotation, type) or annotation.__module__ == "builtins":
            return []
        return list(dict.fromkeys(_below(annotation) or [annotation]))
    parts = get_args(annotation)
    if isinstance(parts[0], list):  # Callable[[arguments], returned]
        parts = parts[1:]
    return [cls for part in parts for cls in subclasses(part)]


def _below(cls: type) -> list[type]:
    found: list[type] = []
    children: list[type] = cls.__subclasses__()
    for child in children:
        if not (inspect.isabstract(child) or child.__name__.startswith("_")):
            found.append(child)
        found += _below(child)
    return found


def arguments(cls: type) -> list[str]:
    """Names of a class's constructor arguments that a configuration sets."""
    try:
        names = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in names if name not in ("params", "args", "kwargs", "optimizer")]
