"""From what jsonargparse says of a refused configuration to one sentence for the user."""

import difflib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

_LISTED = 8


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
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            return  # the parser names the fault
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


def explain(message: str, given: Given, known: Iterable[str], bases: Mapping[str, Any]) -> str:
    """One sentence: the argument, what it got, what is expected or near.

    Args:
        message: what the parser said.
        given: what the user wrote.
        known: dotted names of all options.
        bases: the annotation of each option that takes a class, by dotted name.
    """
    message = " ".join(message.split())
    options = sorted({_public(name) for name in known})
    if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*?)\)", message):
        commands = re.findall(r"'([^']*)'", found[2])
        return f"there is no command {found[1]!r}; {_near(found[1], commands)}."
    if 'expected "subcommand"' in message:
        return "a command is missing; expected fit, validate, test or predict, then its options."
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        return _unknown_option(found[1].removeprefix("--").partition("=")[0], given, options, bases)
    if found := re.search(r"[Oo]ption '([^']*)'(?: is not accepted)?$", message.rstrip(".")):
        return _unknown_option(found[1], given, options, bases)
    if found := re.search(r"[Oo]ption '([^']*)' is not accepted", message):
        return _unknown_option(found[1], given, options, bases)
    if found := re.search(r"arguments are required: (\S+)", message):
        return _required(re.sub(r"^(fit|validate|test|predict)\.", "", found[1]))
    if found := re.search(r"(?:Path is not a file|File does not exist): '([^']*)'", message):
        return f"--config: got {found[1]!r}, expected an existing YAML file."
    if "Problems parsing config" in message or "Unexpected config" in message:
        return _not_yaml(message, given)
    key = re.search(r'Parser key "([^"]*)"', message)
    if key is None:
        return f"{message.rstrip('.')}."
    if found := re.search(r"Expected a dot import path string: (\S+)", message):
        return _unknown_class(_public(key[1]), found[1], "is not a known name", bases)
    if found := re.search(r"Import path (\S+) does not correspond to a subclass", message):
        return _unknown_class(_public(key[1]), found[1], "is a class of another kind", bases)
    if found := re.search(r"given class_path '([^']*)': (.*?)(?= - |$)", message):
        reason = f"cannot be imported ({found[2].rstrip('. ')})"
        return _unknown_class(_public(key[1]), found[1], reason, bases)
    if found := re.search(r"Expected an? (.*?)\. Got value: (.*)$", message):
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
    groups = {option.rpartition(".")[0] for option in options} - {""}
    group = full.rpartition(".")[0]
    siblings = [option for option in options if option.startswith(f"{group}.")]
    names = siblings if group and siblings else [*options, *groups]
    return f"unknown option {full}; {_near(_public(full), names)}."


def _unknown_class(key: str, got: str, reason: str, bases: Mapping[str, Any]) -> str:
    choices = [cls.__name__ for cls in subclasses(bases.get(key))]
    return (
        f"{key}: {got!r} {reason}; {_near(got.rpartition('.')[2], choices)}; a class of your own "
        "is named by its import path, package.module.Class."
    )


def _required(key: str) -> str:
    return f"{key}: is required and was not given; set it in the config file or as --{key}."


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
        return f"did you mean {' or '.join(close)}?"
    if not choices:
        return "nothing of the kind is accepted here"
    return f"expected one of {', '.join(choices[:_LISTED])}{', ...' * (len(choices) > _LISTED)}"


def subclasses(annotation: Any) -> list[type]:
    """Concrete classes that an annotation accepts: subclasses of every class named in it.

    Looks into unions, lists and what a ``Callable`` returns.
    """
    if get_origin(annotation) is None:
        if not isinstance(annotation, type) or annotation.__module__ == "builtins":
            return []
        found = [] if inspect.isabstract(annotation) else [annotation]
        for child in annotation.__subclasses__():
            found += [cls for cls in subclasses(child) if cls not in found]
        return [cls for cls in found if not cls.__name__.startswith("_")]
    parts = get_args(annotation)
    if isinstance(parts[0], list):  # Callable[[arguments], returned]
        parts = parts[1:]
    return [cls for part in parts for cls in subclasses(part)]


def arguments(cls: type) -> list[str]:
    """Names of a class's constructor arguments that a configuration sets."""
    try:
        names = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in names if name not in ("params", "args", "kwargs", "optimizer")]
