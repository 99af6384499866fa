"""Optional packages: many runs do not need them, and a run that does is told if one is missing.

Code that needs an optional package imports it where it is used, after `require_extra`, so that
zolit works without it.
"""

from importlib.util import find_spec

from zolit.errors import UserError

EXTRAS = {
    "eval": "lm_eval",
    "gguf": "gguf",
    "hub": "datasets",
    "peft": "peft",
    "plots": "matplotlib",
}
"""The package of each extra of pyproject.toml, by the name that both import and pip know it by."""


def has_extra(extra: str) -> bool:
    """Whether the package of an extra is installed; it is not imported.

    Args:
        extra: one of `EXTRAS`.
    """
    return find_spec(EXTRAS[extra]) is not None


def mend(extra: str) -> str:
    """What to do about a missing extra: half of a sentence.

    Example:
        >>> mend("plots")
        "pip install 'zolit[plots]' installs it"
    """
    return f"pip install 'zolit[{extra}]' installs it"


def require_extra(extra: str, what: str) -> None:
    """Refuse an option whose package is missing.

    Args:
        extra: one of `EXTRAS`.
        what: beginning of the sentence: the option, and what it asks for.

    Raises:
        UserError: if the package is not installed.
    """
    if not has_extra(extra):
        raise UserError(
            f"{what} needs the package {EXTRAS[extra]}, which is not installed; {mend(extra)}"
        )
