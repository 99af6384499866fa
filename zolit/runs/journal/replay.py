"""Repeats the steps of a journal: start weights and journal give the weights of any step."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from zolit.checkpoints.continuing import check_training
from zolit.checkpoints.tensors import (
    OtherModel,
    load_weight_tensors,
    other_formats,
    other_frozen,
    start_tensors,
    weights_digest,
)
from zolit.digests import tensor_digests
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.noise import signed
from zolit.runs.journal.records import Header, Record, Step, Weights
from zolit.tensors.weight import PerturbedWeight


@dataclass(frozen=True)
class Replayed:
    """The state of a run that the records of a journal move, without the module that made them.

    Attributes:
        network: the prepared model, with the weights before the first record.
        weights: its weights that move, in their order.
        optimizer: of these weights.
        scheduler: the learning-rate schedule; None without one.
        finish: `Estimator.finish`, for the values of a record, ``[queries]`` float32.
        before_step: `Estimator.before_step`, for the estimate of a record.
        fingerprint: of the network.
        check: refuses a checkpoint of another model, and restores the estimator's state from it.
        describe: writes the entries that ``check`` reads to a checkpoint.
    """

    network: nn.Module
    weights: list[PerturbedWeight]
    optimizer: Optimizer
    scheduler: Any
    finish: Callable[[Tensor], Tensor]
    before_step: Callable[[ProjectedGradient], None]
    fingerprint: dict[str, Any]
    check: Callable[[dict[str, Any]], None]
    describe: Callable[[dict[str, Any]], None]


class Replay:
    """Moves weights, optimizer, schedule and estimator of a run by the records of its journal.

    Args:
        state: that is moved.
        steps: number of optimizer steps that its weights have made.

    Attributes:
        steps: the number of steps made by now.
    """

    def __init__(self, state: Replayed, steps: int = 0) -> None:
        self.state = state
        self.steps = steps
        self.optimizer = state.optimizer
        self.scheduler = state.scheduler

    def restore(self, checkpoint: dict[str, Any], rates: bool) -> None:
        """Take weights and optimizer from a checkpoint.

        Args:
            checkpoint: of the run.
            rates: whether to restore its learning rates and schedule too. Else these follow from
                the recipe and the number of steps, so that a changed option takes effect.

        Raises:
            UserError: if it is of another model or recipe.
        """
        self.state.check(checkpoint)
        check_training(checkpoint, self.state.weights, self.optimizer)
        load_weight_tensors(self.state.network, dict(checkpoint["state_dict"]))
        steps, groups = int(checkpoint["global_step"]), self.optimizer.param_groups
        if self.scheduler is not None and not rates:
            with warnings.catch_warnings():
                # The optimizer's steps were made by the run that the checkpoint is of.
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
                for _ in range(steps - self.steps):
                    self.scheduler.step()
        scheduled: list[dict[str, Any]] = [
            {name: group[name] for name in ("lr", "initial_lr") if name in group}
            for group in groups
        ]
        self.optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        if not rates:
            for group, kept in zip(self.optimizer.param_groups, scheduled, strict=True):
                group.update(kept)
        elif self.scheduler is not None and checkpoint["lr_schedulers"]:
            self.scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
        self.steps = steps

    def release_errors(self) -> None:
        """Free the quantization errors of weights whose residual the optimizer has already."""
        for weight in self.state.weights:
            if "residual" in self.optimizer.state.get(weight, {}):
                weight.store.error = None

    def step(self, record: Step) -> None:
        """Move the weights as the record says, at its learning rates.

        Raises:
            UserError: if the optimizer has other parameter groups than that of the run.
        """
        groups = self.optimizer.param_groups
        if len(groups) != len(record.rates):
            raise UserError(
                f"journal: step {record.step} has {len(record.rates)} learning rates, the "
                f"optimizer {len(groups)} parameter groups; use the optimizer of the run"
            )
        scheduled = [group["lr"] for group in groups]
        for group, rate in zip(groups, record.rates, strict=True):
            group["lr"] = rate
        gradient = ProjectedGradient(
            torch.tensor([signed(key) for key in record.keys], dtype=torch.int64),
            self.state.finish(torch.tensor(record.values, dtype=torch.float32)),
            record.rounding_key,
        )
        self.state.before_step(gradient)
        step: Any = self.optimizer.step
        step(gradient=gradient)
        for group, rate in zip(groups, scheduled, strict=True):
            group["lr"] = rate
        if self.scheduler is not None:
            self.scheduler.step()
        self.steps += 1

    def run(
        self,
        records: Iterable[Record],
        until: int,
        after_step: Callable[[int], None] = lambda step: None,
    ) -> "Difference | None":
        """Make the missing steps up to ``until``, and compare the weights with digests on the way.

        Args:
            records: of the journal, from its beginning.
            until: steps after which to stop.
            after_step: called with the number of steps after each.

        Returns:
            Where the weights first differ from those that the run had; None if nowhere.
        """
        agreed: int | None = None
        for record in records:
            if isinstance(record, Step) and self.steps == record.step < until:
                self.step(record)
                after_step(self.steps)
            elif isinstance(record, Weights) and record.step == self.steps <= until:
                if weights_digest(self.state.network) != record.digest:
                    return Difference(record.step, agreed)
                agreed = record.step
        return None


@dataclass(frozen=True)
class Difference:
    """Weights that are not those of the run.

    Attributes:
        step: steps after which they differ.
        agreed: steps after which they were last equal; None if they were not compared before.
    """

    step: int
    agreed: int | None

    def __str__(self) -> str:
        before = "" if self.agreed is None else f", after step {self.agreed} they agree"
        return f"the weights after step {self.step} are not those of the run{before}"


class OtherStartError(UserError):
    """The weights here are not those that a run started from.

    Attributes:
        reason: the first difference, as a clause.
    """

    def __init__(self, run: str, other: OtherModel) -> None:
        super().__init__(f"{run} started from another model: {other.reason}; {other.advice}")
        self.reason = other.reason


def check_start(state: Replayed, header: Header, run: str) -> None:
    """Refuse weights that are not those that the run started from.

    Args:
        state: made as for the run.
        header: of its journal.
        run: its folder, for the message.

    Raises:
        OtherStartError: naming the first difference.
    """
    mine, theirs = state.fingerprint, header.fingerprint
    # Formats and masks first: where they differ, numbers do too, and say less.
    found = (
        other_formats(mine, theirs)
        or _other_tensor(state.network, header, run)
        or other_frozen(mine, theirs)
    )
    if found is not None:
        raise OtherStartError(run, found)


def _other_tensor(network: nn.Module, header: Header, run: str) -> OtherModel | None:
    advice = "make the module anew, as for the run"
    if header.config:
        advice = f"use the model, quantizer, tune and dtype of {run}/config.yaml"
    mine = tensor_digests(start_tensors(network))
    for name in sorted(mine.keys() | header.weights.keys()):
        if mine.get(name) == header.weights.get(name):
            continue
        if name not in header.weights:
            return OtherModel(f"it did not move tensor {name}, which moves here", advice)
        if name not in mine:
            return OtherModel(f"it moved tensor {name}, which does not move here", advice)
        return OtherModel(f"its tensor {name} had other numbers than here", advice)
    return None
