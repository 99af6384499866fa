"""Make the steps of a journal again: start weights and journal give the weights of any step."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from zolit.checkpoints.content import check_training
from zolit.checkpoints.tensors import check_fingerprint
from zolit.digests import digests
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.noise import signed
from zolit.runs.journal.digest import start_tensors, weights_digest
from zolit.runs.journal.format import Header, Record, Step, Weights
from zolit.training.zero_order import ZeroOrderModule


class Replay:
    """Weights, optimizer, schedule and estimator of a run, moved by the records of its journal.

    Args:
        module: prepared, with the weights that the first record was made from.

    Attributes:
        optimizer: with the state that it has after the records so far.
        scheduler: the learning-rate schedule, stepped along; None without one.
        steps: optimizer steps that the weights have behind them.
    """

    def __init__(self, module: ZeroOrderModule, steps: int = 0) -> None:
        self.module = module
        self.steps = steps
        made: Any = module.configure_optimizers()
        self.optimizer: Optimizer
        self.scheduler: Any = None
        if isinstance(made, Optimizer):
            self.optimizer = made
        else:
            [self.optimizer], [self.scheduler] = made

    def restore(self, checkpoint: dict[str, Any], rates: bool) -> None:
        """Take weights and optimizer from a checkpoint.

        Args:
            checkpoint: of the run.
            rates: also its learning rates and its schedule. Without them these follow from the
                module's options and the number of steps, so that a changed option counts.

        Raises:
            UserError: if it is of another model or recipe.
        """
        self.module.on_load_checkpoint(checkpoint)
        check_training(checkpoint, self.module, self.optimizer)
        self.module.load_state_dict(checkpoint["state_dict"])
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
        """Free what quantization left of weights whose residual the optimizer has by now."""
        for weight in self.module.weights:
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
            self.module.estimator.finish(torch.tensor(record.values, dtype=torch.float32)),
            record.rounding_key,
        )
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
        """Make every step up to ``until`` that is not made yet, and compare the weights on the way.

        Args:
            records: of the journal, from its beginning.
            until: steps after which to stop.
            after_step: told the number of steps after each.

        Returns:
            Where the weights first differ from those that the run had; None if nowhere.
        """
        agreed: int | None = None
        for record in records:
            if isinstance(record, Step) and self.steps == record.step < until:
                self.step(record)
                after_step(self.steps)
            elif isinstance(record, Weights) and record.step == self.steps <= until:
                if weights_digest(self.module.network) != record.digest:
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


def check_start(module: ZeroOrderModule, header: Header, run: str) -> None:
    """Refuse a module that does not start from the weights that the run started from.

    Raises:
        UserError: naming the first tensor that differs.
    """
    advice = f"use the model, quantizer, tune and dtype of {run}/config.yaml"
    mine = digests(start_tensors(module.network))
    for name in sorted(mine.keys() | header.weights.keys()):
        if mine.get(name) == header.weights.get(name):
            continue
        said = "has other numbers in"
        if name not in mine or name not in header.weights:
            said = "lacks" if name not in mine else "also has"
        raise UserError(
            f"resume: {run} started from another model than this one, which {said} tensor {name}; "
            f"{advice}"
        )
    try:
        check_fingerprint(module.fingerprint, header.fingerprint)
    except UserError as error:
        raise UserError(f"resume: {str(error).removeprefix('ckpt_path: ')}") from error
