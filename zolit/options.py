"""Whether an option may change when a run is resumed: each class declares its own arguments."""

from collections.abc import Mapping
from enum import Enum


class OnResume(Enum):
    """How an option relates to the steps that a run has made before it is resumed.

    A class declares the arguments of its constructor by name, in a class attribute ``on_resume``.
    The declarations of its base classes hold too. An argument that no class declares is `REPLAYED`.
    """

    REPLAYED = "replayed"
    """The steps depend on it: a replay with another value gives other weights. It is refused."""
    FREE = "free"
    """Only the steps to come depend on it: it may change, if the user asks for it by name."""
    COMPARED = "compared"
    """It may change as long as its effect, such as the start weights, stays the same."""
    REPORTED = "reported"
    """It affects only figures that are reported, not the weights: it may change silently."""


def on_resume(cls: type | None, name: str) -> OnResume:
    """The declaration of a class for one of its arguments.

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


def described(part: object) -> str:
    """A part with its arguments, in a line that is the same for equal parts.

    Example:
        >>> class Part:
        ...     def __init__(self, eps):
        ...         self.eps = eps
        >>> described(Part(0.1))
        'Part(eps=0.1)'
    """
    if part is None:
        return "None"
    given = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(part).items()))
    return f"{type(part).__name__}({given})"
