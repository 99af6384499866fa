"""Nearest names, for error messages."""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """The known names closest to ``name``, or all of them when none is close: ``"a, b, c"``."""
    known = [str(one) for one in known]
    return ", ".join(difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known) or "none"
