"""Losses where a step would lead, for an optimizer that chooses by them."""

from collections.abc import Sequence

from torch import Tensor

from zolit.optim import Choosing
from zolit.strategies import Losses
from zolit.tensors.extent import common_importance_weight
from zolit.tensors.reading import Reading


def chosen_values(
    optimizer: Choosing, reading: Reading, losses: Losses, keys: Tensor, values: Tensor
) -> Tensor:
    """The values of the step that an optimizer makes along one direction.

    Args:
        optimizer: that asks for losses.
        reading: shared state of the weights; at rest before and after.
        losses: the objective on the batch of the step.
        keys: ``[1]`` int64, of the direction; ``[0]`` if it was skipped.
        values: ``[1]`` or ``[0]`` float32, the slope along it.

    Returns:
        As many values as move the weights, none or one.

    Raises:
        UserError: if the mask has weights move by different factors of a step.
    """
    times = common_importance_weight(reading, type(optimizer).__name__, "ZOSGD")

    def losses_at(lengths: Sequence[float]) -> Tensor:
        reads = []
        for length in lengths:
            with reading.perturbed(int(keys[0]) & ((1 << 64) - 1), times * length, copies=1):
                reads.append(losses.read())
        return losses.compare(reads)

    with reading.same_batch():
        return optimizer.choose(values, losses_at)
