"""Explains a value that an option does not take, from the parser's message."""

import re
from collections.abc import Mapping, Sequence

from zolit.commands.classes import arguments
from zolit.commands.given import Given
from zolit.recipes.flat import public_name

_UNION = r"Does not validate against any of the Union subtypes Subtypes: \[(.*?)\] Errors:"
_KIND = r"Expected an? (.*?)\. Got value: "
# Where the value of one parser ends, and what the parsers around it say begins.
_VALUE = r"(?:Given|Got) value: (.*?)\.?(?= - (?:Expected|Problem|Not) |\.? Got value:|$)"
_UNOWNED = r"NestedArg\(key='([\w.]+)', val=.*\)"
_PLAIN = {
    "Mapping": "a mapping (name: value)",
    "NoneType": "null",
    "Sequence": "a list",
    "dict": "a mapping (name: value)",
    "list": "a list",
}


def parser_path(text: str) -> str:
    """The full name of the faulty option, from the messages of the parsers around it."""
    path = ""
    for key in re.findall(r'Parser key "([^"]*)"', text):
        if key != path and not path.endswith(f".{key}"):
            path = key if not path or key.startswith(f"{path}.") else f"{path}.{key}"
    return public_name(path)


def without_class(text: str, given: Given, classes: Mapping[str, Sequence[type]]) -> str | None:
    """A sentence about an argument of a class that nothing names; None if that is not the fault.

    Args:
        text: the parser's message on one line.
        given: what the user wrote.
        classes: for each option, by dotted name, the classes that it can take.
    """
    path, found = parser_path(text), re.search(_UNOWNED, text)
    if found is None or path not in classes or given.class_above(f"{path}.{found[1]}") is not None:
        return None
    argument = f"{path}.{found[1]}"
    choices = [one for one in classes[path] if found[1] in arguments(one)]
    names = ", ".join(sorted(one.__name__ for one in choices or classes[path]))
    return (
        f"{argument}: got {_shown(given.values.get(argument))} without a class that takes it; name "
        f"the class as well: {path}, one of {names}."
    )


def wrong_value(text: str, given: Given) -> str | None:
    """A sentence about a value of another kind; None if that is not the fault.

    Args:
        text: the parser's message on one line.
        given: what the user wrote, which the sentence repeats.
    """
    _, _, inner = text.rpartition('Parser key "')
    union, kind = re.search(_UNION, inner), re.search(_KIND, inner)
    value = re.search(_VALUE, inner)
    if value is None or (union is None and kind is None):
        return None
    path = parser_path(text)
    name, got = _place(path, value[1], given)
    item = name.startswith(f"{path}.") and kind is not None  # of a list that one form takes
    whole = union if union is not None and not item else kind
    expected = _either("" if whole is None else whole[1])
    if got == "None" and "null" not in expected:
        got = "null"
    if "list" in expected and isinstance(given.values.get(name), str):
        expected = f"{expected}; write [{got}]"
    if got.lower().lstrip("+-.") in ("nan", "inf") and "float" in expected:
        expected = expected.replace("float", "a finite number")
    return f"{public_name(name)}: got {_shown(got)}, expected {expected}."


def _place(path: str, said: str, given: Given) -> tuple[str, str]:
    """The key that the user wrote, and the value as it was written.

    Args:
        path: of the option, as the parsers name it; items of lists and mappings have no name there.
        said: the value in the parser's message.
        given: what the user wrote.
    """
    written = {public_name(key): value for key, value in given.values.items()}
    if path in written:
        return path, str(written[path])
    below = [key for key in written if key.startswith(f"{path}.")]
    same = [key for key in below if str(written[key]) == said]
    if len(same) == 1:
        return same[0], said
    group, _, leaf = path.rpartition(".")
    items = [key for key in written if re.fullmatch(rf"{re.escape(group)}\.\d+\.{leaf}", key)]
    if items:
        return items[-1], str(written[items[-1]])
    return path, "a group of options" if below and "(" in said else said


def _shown(value: object) -> str:
    text = str(value)
    return text if text in ("null", "a group of options") else repr(text)


def _either(types: str) -> str:
    """Types as the parser lists them, in words."""
    parts = [_word(one) for one in re.split(r",\s*(?![^\[]*\])", types)]
    parts = list(dict.fromkeys(parts))
    if len(parts) == 1 and "', '" in parts[0]:
        return f"one of {parts[0]}"
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def _word(one: str) -> str:
    if literal := re.fullmatch(r"(?:typing\.)?Literal\[(.*)\]", one):
        return ", ".join(literal[1].split(", "))
    name = re.sub(r"^<class '(?:[\w.]*\.)?(\w+)'>$", r"\1", one)
    name = re.sub(r"^(?:[\w.]+\.)?(\w+)(?=\[|$)", r"\1", name)
    return _PLAIN.get(name.partition("[")[0], name)
