"""Finds eps and a learning rate for a recipe by some dozen forward passes at the start weights."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from zolit.errors import UserError
from zolit.rates.difference import error_of
from zolit.rates.line import Line
from zolit.rates.probe import Probe, first_eps
from zolit.rates.proposal import Proposal
from zolit.rates.rate import propose_rate
from zolit.rates.walk import reach_of, schedule_of
from zolit.training.zero_order import ZeroOrderModule

RISE = 0.04
"""Rise of the loss that the random parts of a run's steps may cost, as a share of the loss. At the
best rates of four sweeps it was 0.03 to 0.13 (docs/methods/learning_rates.md)."""

DIRECTIONS = 12
"""Directions whose slopes are measured, each with batches of its own."""

_READ_ALONG = 4
"""Directions along which the loss is read at many distances."""

_RATIO, _BELOW, _ABOVE, _FURTHER = 3.0, 2, 2, 4
"""Distances are a factor of three apart: two below the first eps, two above, and at most four
further ones until the loss has risen enough."""


@torch.no_grad()
def find_rates(
    module: ZeroOrderModule, batches: Sequence[Any], steps: int, rise: float = RISE
) -> Proposal:
    """Propose eps and a learning rate for a module whose model is loaded; nothing is moved.

    Args:
        module: at the weights that the run starts from.
        batches: of training rows, on the module's device. `DIRECTIONS` times ``micro_batches`` are
            enough; where there are fewer, some are read along several directions.
        steps: of the run to come. The more there are, the shorter each of them has to be.
        rise: how much the random parts of all steps may cost, as a share of the loss.

    Returns:
        The proposal with what it rests on.

    Raises:
        UserError: if the loss does not depend on the weights that move, or is not finite.

    Example:
        >>> find_rates(module, batches, steps=200).lr  # doctest: +SKIP
        0.012
    """
    began = time.perf_counter()
    module.network.eval()
    probe = Probe(module, batches)
    lines = _lines(probe, rise)
    loss = _mean([line.rest for line in lines])
    tested = lines[0].distances.tolist()
    queries = module.query_scheduler.queries(0, 0)
    shared = queries > 1 and bool(getattr(module.estimator, "centered", True))
    error = error_of(lines, module.estimator.one_sided, shared)
    eps = _settable(module, float(f"{error.best(tested[0], tested[-1]):.1e}"))
    slopes = probe.slopes(DIRECTIONS, eps)
    if not bool(slopes.isfinite().all()):
        raise UserError(
            f"find_lr: the loss is NaN or infinite at eps {eps:g} along some directions; set dtype "
            "float32"
        )
    reach = reach_of(lines, rise * abs(loss))
    schedule = schedule_of(module.scheduler_factory, steps)
    module.network.train()  # as it was: every step switches to eval mode itself
    longest = tested[-1]
    return Proposal(
        eps=eps,
        rate=propose_rate(module, slopes, longest if reach is None else reach, schedule),
        loss=loss,
        slopes=tuple(slopes.tolist()),
        error=error,
        recipe_eps=module.perturber.eps,
        reach=longest if reach is None else reach,
        rise=rise * abs(loss),
        risen=rise * abs(loss) if reach else _mean([float(line.rises[-1]) for line in lines]),
        schedule=schedule,
        forwards=probe.forwards,
        seconds=time.perf_counter() - began,
    )


def _lines(probe: Probe, rise: float) -> list[Line]:
    """The loss along some directions, at distances around the first eps and as far as it rises.

    Raises:
        UserError: if less than three distances can be told apart.
    """
    first, directions = first_eps(probe), range(_READ_ALONG)
    wanted = [first * _RATIO**k for k in range(-_BELOW, _ABOVE + 1)]
    distances = sorted({_settable(probe.module, one) for one in wanted})
    while len(distances) < len(wanted):  # whole codes that came out alike
        distances.append(_settable(probe.module, distances[-1] * _RATIO))
    lines = probe.lines(directions, distances)
    for _ in range(_FURTHER):
        if float(lines[0].distances[-1]) * _RATIO > probe.longest:
            break
        finite = min(line.finite for line in lines)
        if finite < len(lines[0].distances):
            break
        if reach_of(lines, rise * abs(_mean([line.rest for line in lines]))) is not None:
            break
        further = [_settable(probe.module, float(lines[0].distances[-1]) * _RATIO)]
        lines = [
            line.joined(probe.line(k, further)) for k, line in zip(directions, lines, strict=True)
        ]
    lines = [line.up_to(min(one.finite for one in lines)) for line in lines]
    if len(lines[0].distances) < 3:
        raise UserError(
            "find_lr: the loss is NaN or infinite already where a read changes it by a few per "
            f"cent (eps {first:.2g}); set dtype float32, or look at the loss function"
        )
    return lines


def _settable(module: ZeroOrderModule, eps: float) -> float:
    """An eps that the recipe can have: whole codes, where products are of integers."""
    step = module.perturber.direction().grid_step
    if step is None or not any(weight.store.integer_products for weight in module.weights):
        return eps
    return max(1, round(eps * step)) / step


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
