"""What becomes of an option when a run is resumed: each class says so of its own arguments."""

from collections.abc import Mapping
from enum import Enum


class OnResume(Enum):
    """What the steps of a run that were made so far have to do with an option.

    A class declares its constructor's arguments in a class attribute ``on_resume``, by their names.
    Those of its base classes hold too. An argument that no class declares is `REPLAYED`.
    """

    REPLAYED = "replayed"
    """They were made with it: a replay with another value gives other weights, so it is refused."""
    FREE = "free"
    """Only the steps to come depend on it: it may change, if the user asks for it by name."""
    COMPARED = "compared"
    """What it decides, such as the start weights, is compared itself."""
    REPORTED = "reported"
    """What it decides is told of a run and moves nothing: it may change without a word."""


def on_resume(cls: type | None, name: str) -> OnResume:
    """What a class declares of one of its arguments.

    Args:
        cls: the class; None if it is not known.
        name: of the argument.

    Example:
        >>> class Part:
        ...     on_resume = {"eps": OnResume.FREE}
        >>> on_resume(Part, "eps"), on_resume(Part, "rank")
        (<OnResume.FREE: 'free'>, <OnResume.REPLAYED: 'replayed'>)
    """
    for one in () if cls is None else cls.__mro__:
        declared = vars(one).get("on_resume")
        if isinstance(declared, Mapping) and name in declared:
            found: OnResume = declared[name]
            return found
    return OnResume.REPLAYED
