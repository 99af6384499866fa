"""Explains an option that takes one of several forms, such as ``data.task``.

The parser tries each form, and its message holds the faults of all of them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from zolit.commands.classes import arguments
from zolit.commands.given import Given
from zolit.errors import nearest_names

_TRIED = r"- Problem with given class_path '([\w.]+)':"


def unfit_form(text: str, given: Given, classes: Mapping[str, Sequence[type]]) -> str | None:
    """A sentence about an option whose names fit no form; None if they fit one.

    Args:
        text: the parser's message on one line.
        given: what the user wrote.
        classes: for each option, by dotted name, the classes that it can take.
    """
    for key, forms in _tried(text, classes).items():
        written = _written(key, given)
        known = sorted({name for form in forms for name in arguments(form)})
        for name in written:
            if name not in known:
                near = nearest_names(name, known)
                listed = f"nearest: {', '.join(near)}" if near else _listed(forms)
                return f"unknown option {key}.{name}; {listed}."
        if _fitting(written, forms) is None:
            return f"{key}: got {', '.join(written)}, which no form has together; {_listed(forms)}."
    return None


def one_form(text: str, given: Given, classes: Mapping[str, Sequence[type]]) -> str:
    """The parser's message without the faults of forms that the user did not mean.

    Args:
        text: the message on one line.
        given: what the user wrote.
        classes: for each option, by dotted name, the classes that it can take.
    """
    for key, forms in _tried(text, classes).items():
        meant = _fitting(_written(key, given), forms)
        others = {form.__name__ for form in forms if form is not meant}
        head, *rest = re.split(_TRIED, text)
        pairs = zip(rest[::2], rest[1::2], strict=True)
        kept = (
            f"- Problem with given class_path '{path}': {body.strip()}"
            for path, body in pairs
            if path.rpartition(".")[2] not in others
        )
        text = " ".join([head.strip(), *kept])
    return text


def _tried(text: str, classes: Mapping[str, Sequence[type]]) -> dict[str, list[type]]:
    """The options whose forms the parser has tried, with these forms."""
    tried = {path.rpartition(".")[2] for path in re.findall(_TRIED, text)}
    found = {}
    for key, choices in classes.items():
        forms = [one for one in choices if is_dataclass(one)]
        if len(forms) > 1 and tried.issuperset(one.__name__ for one in forms):
            found[key] = forms
    return found


def _written(key: str, given: Given) -> list[str]:
    """Names that the user wrote directly below an option."""
    plain = (name.replace(".init_args.", ".") for name in given.values)
    below = (name.removeprefix(f"{key}.") for name in plain if name.startswith(f"{key}."))
    return list(dict.fromkeys(name.partition(".")[0] for name in below))


def _fitting(written: Sequence[str], forms: Sequence[type]) -> type | None:
    """The form that has all of these names, and whose required ones are among them if any's are."""
    fit = [form for form in forms if set(written) <= set(arguments(form))]
    whole = [form for form in fit if set(_required(form)) <= set(written)]
    return next(iter([*whole, *fit]), None)


def _required(form: Any) -> list[str]:
    return [
        one.name
        for one in fields(form)
        if one.init and one.default is MISSING and one.default_factory is MISSING
    ]


def _listed(forms: Sequence[type]) -> str:
    each = (f"{form.__name__} ({', '.join(_required(form))})" for form in forms)
    return f"expected one of {', '.join(each)}, each with options of its own"
