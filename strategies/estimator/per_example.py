"""A direction for each example of a batch, in one pass (GRZO)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zolit.errors import UserError
from zolit.noise import EXAMPLES, fold
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.perturber.scale import ScalePerturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.reading import Reading


@dataclass(frozen=True)
class OfExamples(Estimate):
    """The slope of each example's loss along its own direction.

    Attributes:
        keys: 64-bit key of each of these directions.
    """

    keys: list[int]


class PerExample(Estimator):
    """``(l_i(theta + eps z_i) - l_i(theta - eps z_i)) / (2 eps)`` of each example i of the batch.

    Each example is read along a direction of its own, in the pass that would read all of them along
    one: B examples give B directions a step at the price of one (GRZO, Tan et al. 2026, arXiv
    2606.02857). A direction on factors of output channels is a factor for each row of a product, so
    that rows can differ for nothing. On elements each row would need a product with noise of its
    own; docs/methods/per_example.md counts what that costs.

    A step moves along all of them. With ``normalized`` each slope is divided by their standard
    deviation, as in the paper, so that steps have a length of their own whatever the loss. Without,
    the mean over examples of slope times direction is an unbiased estimate of the gradient of the
    mean loss.

    It needs `ScalePerturber` with ``granularity: row`` and `OptionScoring`.

    Args:
        normalized: divide by the standard deviation over the step's examples; ``lr`` then counts
            units of the coordinate and has no default. A single example stays as it is.
        paired: see `TwoPoint`.

    Example:
        >>> PerExample().finish(torch.tensor([1.0, 3.0, 5.0, 7.0]))
        tensor([0.4472, 1.3416, 2.2361, 3.1305])
    """

    needs = OptionScoring
    by_example: ClassVar[bool] = True

    def __init__(self, normalized: bool = True, paired: bool = True) -> None:
        self.scale_free = self.normalized = normalized
        self.paired = paired

    def check_parts(self, perturber: Perturber, quantizer: Quantizer | None) -> None:
        rows = isinstance(perturber, ScalePerturber) and perturber.granularity == "row"
        if not rows or quantizer is None:
            raise UserError(
                "estimator PerExample gives each row of a batch factors of its own for the output "
                f"channels of quantized layers, got perturber {type(perturber).__name__}"
                f"{'' if quantizer is not None else ' on an adapter'}; use ScalePerturber with "
                "granularity: row, or TwoPoint"
            )

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> OfExamples:
        objective: Any = losses.objective
        batch = _checked(objective, losses.batch)
        if reading.leaves_weights_out:
            raise UserError(
                "mask: got one whose directions leave out some weights, PerExample needs all in "
                "each; use NoMask or RandomMask, or TwoPoint with this mask"
            )
        own = [[fold(key, EXAMPLES, place) for place in range(len(batch))] for key in keys]
        passes: tuple[tuple[Literal[1, 2], float], ...] = ((1, 1.0), (1, -1.0))
        if self.paired and pairable:
            passes = ((2, 1.0),)
        found = []
        for examples in own:
            reads, rows = [], batch.options_per_prompt
            for copies, sign in passes:
                with reading.perturbed_by_example(examples, rows, sign * eps, copies):
                    reads.append(objective.repeated_scores(losses.model, batch, copies))
            scores = torch.cat(reads).float()
            each = F.cross_entropy(scores, batch.labels.repeat(2), reduction="none")
            found.append(each.view(2, -1))
        plus, minus = torch.cat(found, dim=1)
        every = [key for examples in own for key in examples]
        return OfExamples((plus - minus) / (2.0 * eps), (plus + minus).mean() / 2, every)

    def combine(self, estimates: Sequence[Estimate]) -> Tensor:
        """The slopes of all examples, one micro-batch after another."""
        return torch.cat([one.values for one in estimates])

    def joined_keys(self, estimates: Sequence[Estimate], keys: list[int]) -> list[int]:
        found = [one.keys for one in estimates if isinstance(one, OfExamples)]
        return [key for some in found for key in some]

    def finish(self, values: Tensor) -> Tensor:
        if not self.normalized or len(values) < 2:
            return values
        deviation = values.double().std(correction=0)
        return (values / deviation).float() if deviation > 0 else torch.zeros_like(values)


def _checked(objective: OptionScoring, batch: Any) -> PromptBatch:
    """The batch, if its rows run together in their order."""
    if not isinstance(batch, PromptBatch):
        raise UserError(
            f"estimator PerExample needs prompts with common answers, got {type(batch).__name__}; "
            "use TwoPoint"
        )
    if objective.together != "all":
        raise UserError(
            "estimator PerExample needs all rows of a batch in one pass, got a model that runs "
            "rows of one length together; use TwoPoint"
        )
    return batch
