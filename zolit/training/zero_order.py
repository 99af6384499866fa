"""Tuning by forward passes: each step moves along the directions whose losses were compared."""

import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn

from zolit.arguments import at_least
from zolit.errors import UserError
from zolit.evaluations import Evaluation
from zolit.gradient import ProjectedGradient, TakenStep
from zolit.kernels.dispatch import Preference
from zolit.models.adapters import Adapter
from zolit.models.families import last_logits
from zolit.models.passes.arrange import arrange_passes
from zolit.models.prepare import Parts
from zolit.models.source import ModelSource
from zolit.models.trials.pairs import why_not_by_row
from zolit.noise import fold, signed
from zolit.objectives.base import Objective
from zolit.optim import ZOSGD, Choosing, OpenRate, Particular, StepParts, check_fitting
from zolit.options import OnResume
from zolit.strategies import (
    ConstantQueries,
    Estimate,
    Estimator,
    Losses,
    Mask,
    NoMask,
    Perturber,
    Quantizer,
    QueryScheduler,
    TwoPoint,
)
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights
from zolit.training.choosing import chosen_values
from zolit.training.module import Compile, TuningModule
from zolit.training.pending import PendingEstimates
from zolit.training.skipped import skipped_queries

_QUERY, _ROUNDING, _DATA = range(3)
"""Streams of a step's key: its directions, its rounding, the random numbers of its objective."""


class ZeroOrderModule(TuningModule):
    """Fine-tunes a language model by forward passes only.

    Args:
        source: the model to start from.
        quantizer: how its linear layers are stored.
        perturber: which stored coordinates move, along which directions.
        estimator: how losses become projected gradients.
        mask: which subset of the coordinates moves.
        query_scheduler: how many directions a step averages over.
        objective: what is minimized; by default `OptionScoring`.
        evaluation: what is reported on validation and test rows; by default `Classification` if the
            objective scores answers, else `MeanLoss`.
        optimizer: steps on the projected gradients; its ``lr`` is per coordinate unit. `ZOSGD`
            without an lr takes the default of the estimator or the perturber, see `default_lr`.
        lr_scheduler: stepped after every optimizer step.
        tune: what moves: ``linear`` (every linear layer but the output layer), ``output``,
            ``embeddings``, ``norms``, ``biases``, ``adapter``, or parameter-name patterns. By
            default the adapter if there is one, else ``linear``.
        adapter: small float factors beside layers of the model, such as ``LoRA``.
        start_from: a checkpoint of an earlier run, or several: the weights that these runs tuned
            are copied into the loaded model. This run may tune them further or leave them.
        dtype: ``bfloat16`` or ``float32``, of activations and of weights that stay floats; null
            takes the one that this machine multiplies faster, see `faster_dtype`.
        seed: of all directions, roundings, and random numbers of the objective.
        micro_batches: batches that a step averages its losses over, with the same directions.
        kernels: ``auto``, ``compiled`` or ``reference`` (plain torch).
        compile: ``blocks`` compiles the operations between the products (norms, rotary embeddings,
            activations), once for all blocks of the model. It takes half a minute at first, and
            saves an eighth to a quarter of each step. Refused with ``kernels: reference``; without
            effect if ``auto`` finds no compiler.
        max_skipped: stop after this many queries in a row whose loss was NaN or infinite.

    Attributes:
        default_lr: the learning rate that an optimizer without one got; None if it had its own.
        pairable: whether both signs of a direction can be read in one pass.

    Raises:
        UserError: if an option is out of range or two parts do not combine.

    Example:
        >>> from zolit import Int4, ScalePerturber
        >>> module = ZeroOrderModule(ModelSource("models/llama"), Int4(), ScalePerturber())
        >>> module.tune
        ['linear']
    """

    projected_gradient: ClassVar[bool] = True
    on_resume: ClassVar[Mapping[str, OnResume]] = {
        **dict.fromkeys(
            (
                "query_scheduler",
                "objective",
                "lr_scheduler",
                "seed",
                "micro_batches",
                "kernels",
                "compile",
            ),
            OnResume.FREE,
        ),
        **dict.fromkeys(
            ("source", "quantizer", "tune", "start_from", "dtype", "max_skipped"),
            OnResume.COMPARED,
        ),
        "evaluation": OnResume.REPORTED,
    }

    def __init__(
        self,
        source: ModelSource,
        quantizer: Quantizer,
        perturber: Perturber,
        estimator: Estimator | None = None,
        mask: Mask | None = None,
        query_scheduler: QueryScheduler | None = None,
        objective: Objective | None = None,
        evaluation: Evaluation | None = None,
        optimizer: OptimizerCallable = lambda params: ZOSGD(params),
        lr_scheduler: LRSchedulerCallable | None = None,
        tune: list[str] | None = None,
        adapter: Adapter | None = None,
        start_from: str | list[str] | None = None,
        dtype: str | None = "bfloat16",
        seed: int = 0,
        micro_batches: int = 1,
        kernels: Preference = "auto",
        compile: Compile = "none",
        max_skipped: int = 10,
    ) -> None:
        at_least("micro_batches", micro_batches)
        at_least("max_skipped", max_skipped)
        if compile == "blocks" and kernels == "reference":
            raise UserError(
                "compile: got blocks with kernels: reference, expected compiled kernels beside "
                "compiled blocks; set compile: none, or kernels: auto"
            )
        super().__init__(
            reading=Reading(perturber.direction(), kernels),
            source=source,
            quantizer=quantizer,
            objective=objective,
            evaluation=evaluation,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            tune=tune,
            adapter=adapter,
            start_from=start_from,
            dtype=dtype,
            seed=seed,
            compile=compile,
        )
        self.automatic_optimization = False
        if self.tune != ["adapter"]:  # with an adapter alone no code moves: any quantizer will do
            perturber.check(quantizer)
        self.perturber = perturber
        self.estimator = estimator or TwoPoint()
        self.estimator.check(self.objective)
        codes_move = self.tune != ["adapter"]
        self.estimator.check_parts(perturber, quantizer if codes_move else None)
        self.mask = mask or NoMask()
        self.mask.check(perturber)
        self.query_scheduler = query_scheduler or ConstantQueries()
        self.micro_batches = micro_batches
        self.pairable = True
        self.default_lr: float | None = None
        self._plain_lr: float | None = None
        self._taken_lr: float | None = None
        self._skipped = skipped_queries(max_skipped)
        self._pending: PendingEstimates | None = None

    # Construction

    def parts(self) -> Parts:
        forward, how = self.objective.rehearsal(), (self.perturber, self.reading, self.tune)
        return self.quantizer, *how, self.adapter, forward, self.mask

    def arrange(self, model: nn.Module, pairable: bool) -> None:
        how = pairable, self.compiles_blocks and self.reading.compiled, self.estimator.paired
        if self.estimator.by_example and (why := why_not_by_row(model, last_logits)):
            raise UserError(
                f"estimator: {type(self.estimator).__name__} reads each row along a direction of "
                f"its own, but {why}; use TwoPoint"
            )
        self.pairable = arrange_passes(model, self.reading, last_logits, *how)
        self.default_lr = self._plain_lr = None

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimizer that cannot make the steps of this module.

        Args:
            optimizer: of any weights.

        Raises:
            UserError: naming what does not fit.
        """
        check_fitting(optimizer, self.estimator)
        if self.estimator.scale_free and any(one["lr"] is None for one in optimizer.param_groups):
            raise UserError(
                f"model.optimizer: {type(optimizer).__name__} needs an lr, got none: estimator "
                f"{type(self.estimator).__name__} gives slopes without a unit, so that lr counts "
                "units of the coordinate; try 1e-3"
            )
        if isinstance(optimizer, Particular):
            queries = self.query_scheduler.queries(0, 0)
            parts = (self.estimator, self.quantizer, self.perturber)
            optimizer.check(StepParts(queries, self.micro_batches, *parts))

    def take_rates(self, lr: float | None, eps: float) -> None:
        """Use another eps, and another learning rate in the optimizer that is made next.

        Args:
            lr: in place of the recipe's; None leaves that as it is.
            eps: step of a read, in units of the coordinate.
        """
        self._taken_lr = lr
        self.perturber.take_eps(eps)

    def settle_rate(self, optimizer: torch.optim.Optimizer) -> None:
        self.check_optimizer(optimizer)
        if self._taken_lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self._taken_lr
        if not isinstance(optimizer, OpenRate):
            return
        # Only once: after some steps the weights would give another rate.
        if self._plain_lr is None:
            queries = self.query_scheduler.queries(0, 0)
            lr = self.estimator.default_lr or self.perturber.default_lr(self.weights, queries)
            self._plain_lr = lr
        settled = optimizer.settle(self._plain_lr)
        self.default_lr = float(optimizer.param_groups[0]["lr"]) if settled else None

    @property
    def weights(self) -> list[PerturbedWeight]:
        """The weights that move, in the order of their sites."""
        return perturbed_weights(self.network)

    def step_figures(self) -> list[str]:
        own = [*super().step_figures(), "skipped_queries"]
        return [*own, *self.estimator.metrics()]

    # One step

    @property
    def skipped_queries(self) -> int:
        """Queries since the run began whose loss was NaN or infinite."""
        return self._skipped.count

    @property
    def between_steps(self) -> bool:
        """Whether no step is pending that waits for further micro-batches."""
        return self._pending is None

    @torch.no_grad()
    def training_step(self, batch: Any, batch_idx: int) -> dict[str, TakenStep] | None:
        """Estimate on one batch; after ``micro_batches`` of them, step.

        Returns:
            ``taken``: the step that was made, which callbacks get as ``outputs`` of
            ``on_train_batch_end``. None where none was.
        """
        with self.first_of("train"):
            taken = self._train(batch)
        return None if taken is None else {"taken": taken}

    def _train(self, batch: Any) -> TakenStep | None:
        started = time.perf_counter()
        self.network.eval()
        if self._pending is None:
            self._pending = PendingEstimates(self._keys(), started)
        pending = self._pending
        # A single pass for both signs of one direction has no other pass to share results with.
        several = len(pending.keys) > 1 or not (self.pairable and self.estimator.paired)
        data_key = fold(self.seed, _DATA, self.global_step, len(pending.estimates))
        with self.reading.same_batch() if several else nullcontext():
            pending.estimates.append(self.estimate(batch, pending.keys, data_key))
        last = bool(getattr(self.trainer, "is_last_batch", False))
        wanted = self.estimator.batches(self.micro_batches)
        if len(pending.estimates) < wanted and not last:
            return None
        self._pending = None
        taken = self._step(pending, batch, data_key)
        losses = torch.stack([estimate.loss for estimate in pending.estimates])
        self.log("train_loss", losses.mean(), prog_bar=True)
        self.log("step_ms", 1e3 * (time.perf_counter() - pending.started), prog_bar=True)
        self.log("skipped_queries", float(self.skipped_queries))
        self.log_dict(self.estimator.metrics())
        return taken

    def estimate(self, batch: Any, keys: list[int], data_key: int = 0) -> Estimate:
        """Estimate the slope of the loss along some directions from a batch.

        Args:
            batch: of the data module.
            keys: 64-bit key of each direction.
            data_key: key of the objective's random numbers, which all directions share.
        """
        drawn = self.objective.draw(batch, data_key)
        losses = Losses(self.objective, self.network, drawn, self.passes)
        return self.estimator.estimate(
            losses, self.reading, keys, self.perturber.eps, self.pairable
        )

    def _keys(self) -> list[int]:
        count = self.query_scheduler.queries(self.global_step, self.current_epoch)
        keys = [fold(self.seed, _QUERY, self.global_step, query) for query in range(count)]
        return self.estimator.directions(keys)

    def _step(self, pending: PendingEstimates, batch: Any, data_key: int) -> TakenStep:
        """Step on the queries whose loss was finite; an empty step still counts.

        Args:
            pending: with its estimates.
            batch: of the last of them.
            data_key: of that batch.

        Raises:
            UserError: after ``max_skipped`` skipped queries in a row.
        """
        values = self.estimator.combine(pending.estimates).float().cpu()
        measured = values.view(self.estimator.measures, -1)
        # A sum is finite only if all of its numbers are: inf - inf is NaN.
        finite = self._skipped.finite(measured.sum(0), self.global_step)
        own = self.estimator.joined_keys(pending.estimates, pending.keys)
        keys = torch.tensor([signed(key) for key in own])[finite].repeat(len(measured))
        values = measured[:, finite].flatten()
        optimizer, step = self.optimizers(), self.global_step
        inner: Any = self.optimizers(use_pl_optimizer=False)
        if isinstance(inner, Choosing):
            drawn = self.objective.draw(batch, data_key)
            losses = Losses(self.objective, self.network, drawn, self.passes)
            values = chosen_values(inner, self.reading, losses, keys, values)
            keys = keys[: len(values)]
        rounding_key = fold(self.seed, _ROUNDING, step)
        gradient = ProjectedGradient(keys, self.estimator.finish(values), rounding_key)
        self.estimator.before_step(gradient, self.weights)
        rates = tuple(float(group["lr"]) for group in optimizer.param_groups)  # type: ignore[union-attr]
        # Through Lightning's wrapper: nothing else advances global_step and max_steps.
        optimizer.step(gradient=gradient)  # type: ignore[union-attr]
        skipped = (self._skipped.count, self._skipped.in_row)
        scheduler = self.lr_schedulers()
        if scheduler is not None:
            scheduler.step()  # type: ignore[union-attr]
        return TakenStep(step, rates, gradient, values, *skipped)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        self._skipped.save(checkpoint)
        checkpoint["zolit_estimator"] = self.estimator.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._skipped.load(checkpoint)
        self.estimator.load_state_dict(checkpoint.get("zolit_estimator", {}))
