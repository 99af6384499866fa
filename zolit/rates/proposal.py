"""What was found for a recipe, and in which words it is told."""

from collections.abc import Iterator
from dataclasses import dataclass

from zolit.caller import by_caller
from zolit.rates.difference import DifferenceError
from zolit.rates.rate import Rate
from zolit.rates.walk import Schedule
from zolit.training.zero_order import ZeroOrderModule

_FARTHEST = 6.0
"""No coordinate of a model goes farther than this many standard deviations."""


@dataclass(frozen=True)
class Proposal:
    """eps and a learning rate for a recipe, with what was measured.

    Attributes:
        eps: step of a read, in units of the coordinate.
        rate: learning rate with its reason.
        loss: mean of the batches at the start weights.
        slopes: of the loss along the directions, per unit of the coordinate, as the recipe's
            estimator takes them at ``eps``.
        error: of such a slope, over eps.
        recipe_eps: the eps that the recipe has without the proposal.
        reach: distance along a random direction at which the loss has risen by ``rise``; the
            longest distance that was read if ``risen`` is less.
        rise: wanted rise of the loss.
        risen: the mean rise at ``reach``.
        schedule: the steps that the rate was chosen for.
        forwards: passes that were made.
        seconds: that they took.

    Example:
        >>> proposal.take(module)  # doctest: +SKIP
    """

    eps: float
    rate: Rate
    loss: float
    slopes: tuple[float, ...]
    error: DifferenceError
    recipe_eps: float
    reach: float
    rise: float
    risen: float
    schedule: Schedule
    forwards: int
    seconds: float

    @property
    def lr(self) -> float | None:
        """Learning rate, in squared units for a unit of loss; None where no rule for it holds."""
        return self.rate.lr

    @property
    def slope(self) -> float:
        """Root mean square of the slopes."""
        return float((sum(one**2 for one in self.slopes) / len(self.slopes)) ** 0.5)

    def take(self, module: ZeroOrderModule) -> None:
        """Give a module the proposed numbers, before its optimizer is made.

        Args:
            module: the one that was measured, or one made alike.
        """
        module.take_rates(self.lr, self.eps)

    def told(self) -> list[str]:
        """Lines for the user: what was measured, what follows, and how to take it over."""
        return list(self._lines())

    def _lines(self) -> Iterator[str]:
        sizes = sorted(abs(one) for one in self.slopes)
        yield (
            f"find_lr: {len(sizes)} directions at the start weights, {self.forwards} forward "
            f"passes, {self.seconds:.0f} s; loss {self.loss:.4f}"
        )
        yield (
            f"slope: {self.slope:.3g} a unit of the coordinate, root mean square (from "
            f"{sizes[0]:.2g} to {sizes[-1]:.2g})"
        )
        yield f"eps {self.eps:g}: {self._errors(self.eps)}"
        if abs(self.recipe_eps / self.eps - 1) > 0.1:
            yield f"the recipe's eps {self.recipe_eps:g}: {self._errors(self.recipe_eps)}"
        if self.error.at(self.eps) > self.slope:
            yield (
                "no eps tells a slope from rounding here: take dtype float32, more rows a batch, "
                "or let more weights move"
            )
        yield self._walked()
        if self.lr is None:
            yield f"lr: none is proposed, {self.rate.reason}"
        elif self.rate.reason:
            yield f"lr {self.lr:g}: {self.rate.reason}"
        else:
            yield (
                f"lr {self.lr:g}: with it the random parts of {self.schedule.steps} steps add up "
                "to that distance"
            )
        if self.rate.rounded > 0.5:
            yield (
                f"{100 * self.rate.rounded:.0f} % of that walk would be rounding at random, which "
                "no lr makes smaller beside what the steps gain: "
                + by_caller(
                    "set model.optimizer.error_feedback: true, with model.quantizer.keep_error: "
                    "true where weights are quantized",
                    "give the optimizer error_feedback=True, with keep_error=True in the quantizer",
                )
            )
        if self.rate.held is not None and self.rate.held * _FARTHEST < 0.5:
            yield (
                f"no code would move: error feedback waits for half a code, and the steps of the "
                f"run add up to about {self.rate.held:.1g} of one; set "
                + by_caller("model.quantizer.keep_error: true", "keep_error=True in the quantizer")
            )
        yield self._how()

    def _errors(self, eps: float) -> str:
        parts = (self.error.at(eps), self.error.rounding(eps), self.error.bending(eps))
        whole, rounding, bending = (f"{100 * part / self.slope:.2g} %" for part in parts)
        return (
            f"a read moves the loss by {eps * self.slope:.2g}; the error of a slope is {whole} "
            f"(rounding {rounding}, curvature {bending})"
        )

    def _walked(self) -> str:
        if self.risen < self.rise:
            return (
                f"the loss does not rise by {self.rise:.2g} along random directions; the longest "
                f"that was read is {self.reach:.2g}, where it has risen by {self.risen:.2g}: a "
                "direction is about as long as the weights there, or the loss is not finite behind"
            )
        return (
            f"reach: {self.reach:.2g} along a random direction the loss has risen by "
            f"{self.rise:.2g}"
        )

    def _how(self) -> str:
        rate = "" if self.lr is None else f"--model.optimizer.lr {self.lr:g} "
        return by_caller(
            f"take them over: {rate}--model.perturber.eps {self.eps:g}; or let the run begin with "
            "them: --find_lr use",
            "take them over before the run: found.take(module)",
        )
