"""Messages for the user: refusals, and lines beside the results."""

import difflib
import sys
from collections.abc import Iterable

from zolit.caller import addressed


class UserError(ValueError):
    """Bad input from the user: one sentence that names the argument, what it got,
    what is expected and the next step.

    The command line prints the sentence and exits with code 2, without a traceback. A sentence may
    begin with an option of recipes; from Python that is called by its argument (`addressed`).

    Example:
        >>> raise UserError("lr must be a positive number, got -1; try 0.1")
        Traceback (most recent call last):
        zolit.errors.UserError: lr must be a positive number, got -1; try 0.1
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(addressed(sentence))


class NotFetchedError(UserError):
    """The files that a recipe names are on the network and have not been downloaded yet."""


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The `UserError` that caused an exception, through any chain of causes; None without one."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def tell(sentence: str) -> None:
    """Print a line for the user on stderr, beside the results, about something unexpected."""
    print(f"zolit: {addressed(sentence)}", file=sys.stderr, flush=True)


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has no message.

    Example:
        >>> first_line(ValueError("not a number: x\\nin line 3")), first_line(KeyError())
        ('not a number: x', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def nearest_names(
    name: str, known: Iterable[object], most: int = 3, alike: float = 0.5
) -> list[str]:
    """The known names closest to ``name``, the closest first.

    Args:
        name: that someone wrote.
        known: names that are accepted.
        most: names to return at most.
        alike: from 0, anything, to 1, the same name.

    Example:
        >>> nearest_names("lables", ["label", "text"])
        ['label']
    """
    return difflib.get_close_matches(name, [str(one) for one in known], n=most, cutoff=alike)


def nearest(name: str, known: Iterable[object]) -> str:
    """The known names closest to ``name``, or all of them when none is close: ``"a, b, c"``."""
    names = [str(one) for one in known]
    return ", ".join(nearest_names(name, names) or names) or "none"
