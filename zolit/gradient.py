"""What an estimate of the gradient is: seeds and numbers."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ProjectedGradient:
    """The gradient estimate ``mean_q values[q] * z(keys[q])``, without its directions.

    A direction is a pure function of its key, so a few bytes for each query stand for a vector
    with as many entries as the model has weights.

    Attributes:
        keys: ``[Q]`` int64, the 64-bit key of each direction (`zolit.noise.fold`).
        values: ``[Q]`` float32, the derivative of the loss along each direction, in loss per
            unit of the perturbed coordinate. Queries whose loss was not finite are left out,
            so ``Q`` counts the valid ones.
        rounding_key: key of the stochastic rounding of this step's update.
    """

    keys: Tensor
    values: Tensor
    rounding_key: int

    def __post_init__(self) -> None:
        if self.keys.dtype != torch.int64 or self.values.dtype != torch.float32:
            raise TypeError(
                f"keys must be int64 and values float32, got {self.keys.dtype} and "
                f"{self.values.dtype}"
            )
        if self.keys.shape != self.values.shape or self.keys.dim() != 1:
            raise ValueError(
                "keys and values must be one-dimensional and of equal length, got "
                f"{tuple(self.keys.shape)} and {tuple(self.values.shape)}"
            )

    def __len__(self) -> int:
        return self.keys.numel()


@dataclass
class Passes:
    """How often batches have gone through a network to make steps; evaluations do not count.

    Attributes:
        forwards: forward passes; one that reads two versions of the weights counts as two.
        backwards: backward passes; each costs about two forwards.

    Example:
        >>> Passes(forwards=2)
        Passes(forwards=2, backwards=0)
    """

    forwards: int = 0
    backwards: int = 0


@dataclass(frozen=True)
class TakenStep:
    """An optimizer step that was made. With the weights before it, it determines those after it.

    Attributes:
        step: its number, from 0.
        rates: learning rate of each parameter group.
        gradient: the estimate that the step used; empty if every query was skipped, or if the
            optimizer chose not to move.
        raw_values: ``[Q]`` float32, the values of ``gradient`` before `Estimator.finish`.
        skipped: queries skipped since the run began.
        skipped_in_row: how many of them came last, without a query that counted after them.
    """

    step: int
    rates: tuple[float, ...]
    gradient: ProjectedGradient
    raw_values: Tensor
    skipped: int
    skipped_in_row: int


def taken_step(outputs: Any) -> TakenStep | None:
    """The step that a module made with a batch, from the ``outputs`` that callbacks are given.

    Args:
        outputs: those of ``on_train_batch_end``, which ``training_step`` returned.

        Returns:
        None if the batch did not complete a step, or if the module does not report its steps.
    """
    taken = outputs.get("taken") if isinstance(outputs, dict) else None
    return taken if isinstance(taken, TakenStep) else None
