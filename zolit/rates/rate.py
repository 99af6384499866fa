"""The learning rate that follows from slopes, a reach and a schedule, for one's optimizer."""

import copy
import math
from dataclasses import dataclass

from torch import Tensor

from zolit.optim import StepsAlongDirections
from zolit.rates.walk import Schedule, rate_for, rounding_variance
from zolit.tensors.extent import extent, importance_weight
from zolit.training.zero_order import ZeroOrderModule


@dataclass(frozen=True)
class Rate:
    """A learning rate, and why it is as it is.

    Attributes:
        lr: None where none can be proposed.
        reason: why it does not come from the slopes; empty where it does.
        rounded: share of the squared displacement of a run that rounding at random makes, 0 to 1.
        held: displacement of a run in codes, in the weight where it is largest, if error feedback
            holds moves back until they add up to half a code; None if nothing is held back.

    Example:
        >>> Rate(1.0, "the whole step of GaussNewton").rounded
        0.0
    """

    lr: float | None
    reason: str = ""
    rounded: float = 0.0
    held: float | None = None


def propose_rate(module: ZeroOrderModule, slopes: Tensor, reach: float, schedule: Schedule) -> Rate:
    """The rate whose steps, taken at random, add up to a reach.

    Args:
        module: whose model is loaded.
        slopes: ``[K]``, of the loss along directions, as its estimator takes them.
        reach: in units of the coordinate, see `zolit.rates.walk`.
        schedule: of the run.
    """
    estimator = module.estimator
    if estimator.default_lr is not None:
        name = type(estimator).__name__
        return Rate(estimator.default_lr, f"{name} computes the length of a step itself")
    if estimator.by_example or estimator.measures != 1:
        name = type(estimator).__name__
        return Rate(None, f"{name} measures something else than one slope for each direction")
    optimizer = module.optimizer_factory(module.weights)
    name = type(optimizer).__name__
    if not isinstance(optimizer, StepsAlongDirections):
        return Rate(None, f"{name} does not say how far it goes along a direction")
    # Neither the state of the run's estimator nor its numbers may change.
    values = copy.deepcopy(estimator).finish(slopes.float())
    factors = optimizer.direction_factors(values).double()
    queries = module.query_scheduler.queries(0, 0)
    each = factors * len(values) / queries  # an optimizer averages over the directions it gets
    weight = max(module.reading.importance_weights, default=1.0)
    length = weight * math.sqrt(queries * float(each.square().mean()))
    if not length:
        return Rate(None, f"{name} does not tell the length of a step before its first")
    carried = all(group.get("error_feedback", False) for group in optimizer.param_groups)
    spacing = 0.0 if carried else grid_spacing(module)
    lr = float(f"{rate_for(reach, length, schedule, spacing):.1e}")
    rounded = lr * rounding_variance(length, schedule, spacing) / reach**2
    held = reach * _longest_in_codes(module) if carried and not module.quantizer.keep_error else 0
    return Rate(lr, "", rounded, held or None)


def _longest_in_codes(module: ZeroOrderModule) -> float:
    """How far a coordinate of 1 moves a code at most; 0 where no codes move."""
    sites = ((one.site, one.store) for one in module.weights)
    return max(
        (site.coordinates.length_in_codes(store) for site, store in sites if site is not None),
        default=0.0,
    )


def grid_spacing(module: ZeroOrderModule) -> float:
    """Mean spacing of the grids that a step is rounded onto at random, in units of the coordinate.

    Each weight counts by the squared length of its part of a direction.
    """
    total = lengths = 0.0
    for weight in module.weights:
        if weight.site is None:
            continue
        square = extent(weight).length ** 2 * importance_weight(weight)
        total += square * weight.site.coordinates.spacing(weight.store)
        lengths += square
    return total / lengths if lengths else 0.0
