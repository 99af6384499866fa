"""Arguments of public functions and classes, refused where they are given.

Annotations say what kind of value an argument takes. `checked` compares each value with its
annotation, so that a wrong one is refused in a sentence at the call, and not by an error deep in a
library later. The ranges that many arguments share are functions here as well.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, wraps
from inspect import Parameter, isabstract, signature
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)
from typing import get_type_hints as type_hints

from zolit.errors import UserError, nearest_names

P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", int, float)

_PLAIN = {
    bool: "True or False",
    float: "a number",
    int: "a whole number",
    str: "a text",
    NoneType: "None",
    Path: "a path",
}
_LISTS = (list, tuple, Iterable, Sequence)
_LISTED = 6


@overload
def checked(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def checked(**instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def checked(function: Callable[..., Any] | None = None, /, **instead: str) -> Callable[..., Any]:
    """A function that refuses arguments of another kind than its annotations say.

    What an annotation does not tell (a protocol, a type variable) is let through, and so is any
    value of a mapping. A number may be of numpy or torch, a list may be a tuple, a text may be a
    path.

    Args:
        function: that is decorated; without it, the decorator.
        instead: for arguments by name, the next step of who gave a wrong one.

    Raises:
        UserError: from the call, naming the argument, its value and what is expected.

    Example:
        >>> @checked
        ... def half(count: int) -> int:
        ...     return count // 2
        >>> half("four")
        Traceback (most recent call last):
        zolit.errors.UserError: count of half: got 'four', expected a whole number; see help(half)
    """

    if function is None:
        return lambda decorated: _checking(decorated, instead)
    return _checking(function, instead)


def _checking(function: Callable[P, R], instead: Mapping[str, str]) -> Callable[P, R]:
    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        _check(function, args, options, instead)
        return function(*args, **options)

    return call


class Checked:
    """Lets the constructors of all subclasses refuse arguments of wrong kinds, see `checked`.

    Example:
        >>> class Part(Checked):
        ...     def __init__(self, eps: float = 0.1) -> None:
        ...         self.eps = eps
        >>> Part(eps=[1])
        Traceback (most recent call last):
        zolit.errors.UserError: eps of Part: got [1], expected a number; leave it out for 0.1
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        check_constructor(cls)


def check_constructor(cls: type[R]) -> type[R]:
    """The class, whose constructor refuses arguments of wrong kinds; a decorator of dataclasses."""
    own = vars(cls).get("__init__")
    if own is not None:
        cls.__init__ = checked(own)  # type: ignore[method-assign]
    return cls


def at_least(name: str, value: N, least: int = 1, instead: str = "change it") -> N:
    """The value of an argument.

    Args:
        name: of the argument.
        value: that it got.
        least: that is expected.
        instead: the next step of the user.

    Raises:
        UserError: it is lower, NaN or infinite.
    """
    return _ranged(name, value, least <= value < math.inf, f"at least {least}", instead)


def in_unit_range(name: str, value: float, instead: str = "try 0.01") -> float:
    """The value of an argument that is a fraction, above 0 and at most 1; see `at_least`.

    Raises:
        UserError: it is none.
    """
    return _ranged(name, value, 0 < value <= 1, "in (0, 1]", instead)


def positive(name: str, value: float, instead: str) -> float:
    """The value of an argument that is a positive number; see `at_least`.

    Raises:
        UserError: it is not positive, NaN or infinite.
    """
    return _ranged(name, value, 0 < value < math.inf, "a positive number", instead)


def _ranged(name: str, value: N, fits: bool, expected: str, instead: str) -> N:
    if not fits:
        raise UserError(f"{name} must be {expected}, got {value}; {instead}")
    return value


def _check(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    instead: Mapping[str, str],
) -> None:
    parameters, hints = _expected(function)
    try:
        given = signature(function).bind_partial(*args, **options).arguments
    except TypeError:
        return  # Python itself says which argument is missing or unknown
    for name, value in given.items():
        parameter = parameters[name]
        variable = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if name not in hints or variable or value is parameter.default:
            continue
        if not _fits(value, hints[name]):
            owner = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
            step = _next_step(value, hints[name], parameter.default) or f"see help({owner})"
            raise UserError(
                f"{name} of {owner}: got {_shown(value)}, expected {_words(hints[name])}; "
                f"{instead.get(name, step)}"
            )


@cache
def _expected(function: Callable[..., Any]) -> tuple[Mapping[str, Parameter], dict[str, Any]]:
    try:
        hints = type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that only a type checker knows
        hints = {}
    return signature(function).parameters, hints


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the kind that an annotation says, as far as that can be told."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(value, parts[0])
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int | None) and value in parts
    if origin in _LISTS:
        listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
        return listed and (not isinstance(value, list | tuple) or _items_fit(value, parts))
    if origin is Callable:
        return callable(value)
    return _is_of(value, hint if origin is None else origin)


def _items_fit(items: Iterable[Any], parts: tuple[Any, ...]) -> bool:
    if len(parts) == 1 or parts[1:] == (Ellipsis,):
        return all(_fits(one, parts[0]) for one in items)
    return True


def _is_of(value: Any, cls: Any) -> bool:
    if cls is None:
        return value is None
    if cls in (int, float):
        return _is_number(value, whole=cls is int)
    if cls is bool:
        return isinstance(value, int) or type(value).__name__ in ("bool", "bool_")  # of numpy
    if cls is str:
        return isinstance(value, str | os.PathLike)
    try:
        return isinstance(value, cls)
    except TypeError:  # a protocol, a type variable, Any
        return True


def _is_number(value: Any, whole: bool) -> bool:
    known = hasattr(value, "__index__") or (hasattr(value, "__float__") and not whole)
    return known and not isinstance(value, bool) and not getattr(value, "ndim", None)


def _words(hint: Any) -> str:
    """What an annotation expects, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_words, parts)))
    if origin is Literal:
        return f"one of {', '.join(map(repr, parts))}"
    if origin in _LISTS:
        return f"a list of {_plural(parts[0])}" if parts else "a list"
    if origin is Callable:
        return "a function"
    cls = hint if origin is None else origin
    if cls in _PLAIN:
        return _PLAIN[cls]
    if isinstance(cls, type) and issubclass(cls, Mapping):
        return "a dict"
    name = getattr(cls, "__name__", str(cls))
    home = getattr(cls, "__module__", "zolit").partition(".")[0]
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}{'' if home == 'zolit' else f' of {home}'}"


def _plural(hint: Any) -> str:
    return {str: "texts", int: "whole numbers", float: "numbers"}.get(hint, _words(hint))


def _shown(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    text = repr(value)
    simple = isinstance(value, str | int | float | list | tuple | dict | NoneType)
    return text if simple and len(text) <= 60 else f"a {type(value).__name__}"


def _next_step(value: Any, hint: Any, default: Any) -> str | None:
    classes = list(_classes(hint))
    if isinstance(value, type) and any(issubclass(value, one) for one in classes):
        return f"give an object of it: {value.__name__}(...)"
    names = sorted({one.__name__ for cls in classes for one in (cls, *_below(cls)) if _made(one)})
    if names:
        near = nearest_names(value, names, most=1) if isinstance(value, str) else []
        return f"give an object of {', '.join(near or names[:_LISTED])}"
    if default is not Parameter.empty and not callable(default):
        return "leave it out" if default is None else f"leave it out for {default!r}"
    return None


def _classes(hint: Any) -> Iterator[type]:
    """The classes of objects that an annotation names; not those of texts, numbers and lists."""
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _classes(part)
    elif isinstance(hint, type) and get_origin(hint) is None and hint.__module__ != "builtins":
        yield hint


def _below(cls: type) -> Iterator[type]:
    children: list[type] = cls.__subclasses__()
    for one in children:
        yield one
        yield from _below(one)


def _made(cls: type) -> bool:
    """Whether users make objects of a class."""
    own = cls.__module__.startswith("zolit.") and not cls.__name__.startswith("_")
    return own and not isabstract(cls)
