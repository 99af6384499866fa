"""What zolit did otherwise when it wrote journals of earlier versions, so that these replay."""

from collections.abc import Sequence
from dataclasses import replace

from zolit.supports import Hashed
from zolit.tensors.weight import PerturbedWeight


def move_as_recorded(weights: Sequence[PerturbedWeight], version: int) -> None:
    """Let weights move as those of a run did, before its steps are repeated.

    Until version 2 of the journal the first step of a run with ``RandomMask``, ``keep_error`` and
    ``error_feedback`` also moved coordinates outside of the mask, where quantization had left half
    a code or more.

    Args:
        weights: of the run, as they start.
        version: of its journal.
    """
    if version >= 2:
        return
    for weight in weights:
        site = weight.site
        if site is not None and isinstance(site.support, Hashed):
            support = replace(site.support, spares_others=False)
            weight.stand_at(replace(site, support=support))
