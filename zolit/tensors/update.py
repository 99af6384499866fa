"""Move stored weights along directions that are made again from their keys."""

from collections import defaultdict
from collections.abc import Sequence

from zolit.tensors.feedback import Feedback
from zolit.tensors.site import Coordinates, Moving
from zolit.tensors.step import Step
from zolit.tensors.weight import PerturbedWeight


def move(
    weights: Sequence[PerturbedWeight],
    keys: list[int],
    coefficients: list[float],
    rounding_key: int,
    feedbacks: Sequence[Feedback | None],
) -> None:
    """``theta += sum_q coefficients[q] * z(keys[q])`` in units of the coordinate, in place.

    Integer codes, float8 and bfloat16 numbers are rounded stochastically, or to nearest with error
    feedback. Where directions lie on a grid, they are rounded by another draw than in the reads
    that measured the losses (QuZO's u_2).

    Args:
        weights: weights of one model, each with a site.
        keys: 64-bit key of each direction.
        coefficients: signed step along each direction, in units of the coordinate.
        rounding_key: 64-bit key of this step's stochastic rounding.
        feedbacks: error feedback of each weight; None for a weight without it.

    Raises:
        ValueError: if a weight has no site.
    """
    if not weights or not keys:
        return
    first = weights[0]
    step = Step(first.reading, keys, coefficients, rounding_key, first.store.device)
    kinds: dict[type[Coordinates], list[Moving]] = defaultdict(list)
    for weight, feedback in zip(weights, feedbacks, strict=True):
        if weight.site is None:
            raise ValueError(f"{weight.path} has no site among the perturbed weights")
        moving = Moving(weight.store, weight.site, feedback)
        kinds[type(weight.site.coordinates)].append(moving)
    for kind, moved in kinds.items():
        kind.move_all(moved, step)
        for one in moved:
            follow(one)


def follow(moved: Moving) -> None:
    """Let the support of a weight that has moved follow its values (`Support.follow`).

    What rounding left of a coordinate that rests from now on is not carried.
    """
    site = moved.site
    if site.support.follow(moved.store) and moved.feedback is not None:
        site.support.clear_others(moved.feedback.residual, site.index)
