"""Tells the user which weights of a model zolit neither stores nor moves, as of unknown kind."""

import logging
import re

from torch import nn

from zolit.models.plan import Plan, find_parameters

log = logging.getLogger(__name__)

LEAST = 0.01
"""Smaller shares of a model's parameters are not told, such as routers and convolutions."""


def tell_untouched(model: nn.Module, plan: Plan) -> None:
    """Print a line about matrices that are no linear layer, experts, embedding or norm.

    `Plan.tell` tells of weights that no forward reads.

    Args:
        model: not prepared yet; on any device.
        plan: of it.
    """
    line = untouched(model, plan)
    if line is not None:
        log.warning("%s", line)


def untouched(model: nn.Module, plan: Plan) -> str | None:
    """The sentence of `tell_untouched`; None if they are less than `LEAST` of the parameters."""
    found = find_parameters(model)
    planned = plan.idle.union(one.path for one in plan.weights)
    unknown = [
        one
        for one in found
        if one.kind == "other" and one.parameter.dim() > 1 and one.path not in planned
    ]
    count = sum(one.parameter.numel() for one in unknown)
    share = count / max(1, sum(one.parameter.numel() for one in found))
    if share < LEAST:
        return None
    names = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", one.path) for one in unknown))
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return (
        f"{share:.0%} of the parameters are in weights that are no linear layers or experts as "
        f"zolit knows them ({', '.join(names[:2])}{more}): they stay floats and do not move; to "
        f"move them, as floats, set tune: [linear, '{names[0]}']"
    )
