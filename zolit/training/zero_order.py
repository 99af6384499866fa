"""The LightningModule that wires the parts together."""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zolit.allocator import returning_memory
from zolit.checkpoints.start import Started, check_files, check_started, start_from
from zolit.checkpoints.tensors import (
    check_fingerprint,
    fingerprint,
    load_weight_tensors,
    weight_tensors,
)
from zolit.errors import UserError
from zolit.evaluations.classification import Evaluation
from zolit.gradient import ProjectedGradient, TakenStep
from zolit.kernels.dispatch import Preference
from zolit.models.adapters import Adapter
from zolit.models.loading.load import load_prepared
from zolit.models.passes.arrange import arrange_passes
from zolit.models.prepare import Parts, Preparation, prepare
from zolit.models.source import ModelSource
from zolit.noise import fold, signed
from zolit.objectives.base import Objective
from zolit.objectives.option_scoring import OptionScoring, last_logits
from zolit.optim import ZOSGD
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
from zolit.training.loop_state import mended_loop_state

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}

_QUERY, _ROUNDING = range(2)
"""Streams of a step's key."""


class ZeroOrderModule(L.LightningModule):
    """Fine-tunes a language model by forward passes only.

    Args:
        source: the model to start from.
        quantizer: how its linear layers are stored.
        perturber: which stored coordinates move, along which directions.
        estimator: how losses become projected gradients.
        mask: which subset of the coordinates moves.
        query_scheduler: how many directions a step averages over.
        objective: what is minimized.
        optimizer: steps on the projected gradients; its ``lr`` is per coordinate unit. Without an
            lr, `ZOSGD` takes the estimator's or perturber's own, see `default_lr`.
        lr_scheduler: stepped after every optimizer step.
        tune: what moves: ``linear`` (every linear layer but the output layer), ``output``,
            ``embeddings``, ``norms``, ``biases``, ``adapter``, or parameter-name patterns. By
            default the adapter if there is one, else ``linear``.
        adapter: small float factors beside layers of the model, such as ``LoRA``.
        start_from: a checkpoint of an earlier run, or several: what it tuned is put onto the
            loaded model, to be tuned further or left alone.
        dtype: ``bfloat16`` or ``float32``, of activations and of weights that stay floats.
        seed: of all directions and roundings.
        micro_batches: batches that a step averages its losses over, with the same directions.
        kernels: ``auto``, ``compiled`` or ``reference`` (plain torch).
        compile: ``blocks`` compiles what lies between the products (norms, rotary embeddings,
            activations), once for all blocks of the model: half a minute at first, an eighth to
            a quarter off each step from then on. Refused with ``kernels: reference``; where
            ``auto`` finds no compiler it has no effect.
        max_skipped: stop after this many queries in a row whose loss was NaN or infinite.

    Raises:
        UserError: if an option is out of range or two parts do not combine.
    """

    def __init__(
        self,
        source: ModelSource,
        quantizer: Quantizer,
        perturber: Perturber,
        estimator: Estimator | None = None,
        mask: Mask | None = None,
        query_scheduler: QueryScheduler | None = None,
        objective: Objective | None = None,
        optimizer: OptimizerCallable = lambda params: ZOSGD(params),
        lr_scheduler: LRSchedulerCallable | None = None,
        tune: list[str] | None = None,
        adapter: Adapter | None = None,
        start_from: str | list[str] | None = None,
        dtype: str = "bfloat16",
        seed: int = 0,
        micro_batches: int = 1,
        kernels: Preference = "auto",
        compile: Literal["none", "blocks"] = "none",
        max_skipped: int = 10,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        if dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        for name, value in (("micro_batches", micro_batches), ("max_skipped", max_skipped)):
            if value < 1:
                raise UserError(f"{name} must be at least 1, got {value}")
        if compile == "blocks" and kernels == "reference":
            raise UserError(
                "compile: got blocks with kernels: reference, expected compiled kernels beside "
                "compiled blocks; set compile: none, or kernels: auto"
            )
        if tune == []:
            raise UserError("tune: got [], which moves nothing; name what moves, such as linear")
        self.tune = tune or (["linear"] if adapter is None else ["adapter"])
        if self.tune != ["adapter"]:  # no code moves then, so any quantizer will do
            perturber.check(quantizer)
        self.adapter = adapter
        self.start_files = [start_from] if isinstance(start_from, str) else start_from or []
        self.started: Started = []
        """What the model was started from besides its source."""
        self.source = source
        self.quantizer = quantizer
        self.perturber = perturber
        self.estimator = estimator or TwoPoint()
        self.query_scheduler = query_scheduler or ConstantQueries()
        self.objective = objective or OptionScoring()
        if self.objective.compares and not self.estimator.compares:
            raise UserError(
                f"objective: {type(self.objective).__name__} with these options compares the reads "
                f"of a direction, which {type(self.estimator).__name__} does not show it together; "
                "use TwoPoint, or set OptionScoring's shared: 1"
            )
        self.optimizer_factory = optimizer
        self.scheduler_factory = lr_scheduler
        self.dtype_name = dtype
        self.seed = seed
        self.micro_batches = micro_batches
        self.max_skipped = max_skipped
        self.compiles_blocks = compile == "blocks"
        self.mask = mask or NoMask()
        self.mask.check(perturber)
        self.reading = Reading(perturber.direction(), kernels)
        self.model: nn.Module | None = None
        self._fingerprint: dict[str, Any] | None = None
        self.pairable = True
        self.skipped_queries = 0
        self.taken: TakenStep | None = None
        """The last step made; the journal writes it down."""
        self._skipped_in_row = 0
        self._pending: _Pending | None = None
        self._stages: frozenset[str] = frozenset()
        self.evaluated: dict[str, Evaluation] = {}
        """The last validation, ``val``, and the last test, ``test``."""
        self.default_lr: float | None = None
        """The learning rate that an optimizer without one got; None if it had its own."""
        self._evaluations: dict[str, Evaluation] = {}

    # Construction

    def configure_model(self) -> None:
        """Load, quantize and wrap the model, once."""
        if self.model is None:
            check_files(self.start_files)
            preparation = Preparation(*self.parts())
            dtype = DTYPES[self.dtype_name]
            with returning_memory():
                model, pairable = load_prepared(self.source, dtype, preparation)
            self._take(model, pairable)

    def parts(self) -> Parts:
        """What a `Preparation` of the model is made of."""
        forward, how = self.objective.rehearsal(), (self.perturber, self.reading, self.tune)
        return self.quantizer, *how, self.adapter, forward, self.mask

    def adopt(self, model: nn.Module) -> None:
        """Take a loaded model and prepare its weights in place."""
        check_files(self.start_files)
        pairable = prepare(model, *self.parts())
        self._take(model, pairable)

    def _take(self, model: nn.Module, pairable: bool) -> None:
        self.started = start_from(model, self.start_files)
        self.objective.try_out(model)
        how = pairable, self.compiles_blocks and self.reading.compiled, self.estimator.paired
        self.pairable = arrange_passes(model, self.reading, last_logits, *how)
        # Every step switches to eval mode itself; Lightning warns of a fit that starts in it.
        self.model = model.train()
        self._fingerprint = None
        self.default_lr = None

    @property
    def network(self) -> nn.Module:
        """The prepared model.

        Raises:
            RuntimeError: before `configure_model`.
        """
        if self.model is None:
            raise RuntimeError("the model is not loaded yet; call configure_model() first")
        return self.model

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Of the prepared model, see `zolit.checkpoints.tensors.fingerprint`; hashed once."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.network)
        return self._fingerprint

    @property
    def between_steps(self) -> bool:
        """Whether no step is half made, with some of its micro-batches still to come."""
        return self._pending is None

    @property
    def weights(self) -> list[PerturbedWeight]:
        """The weights that move, in the order of their sites."""
        return perturbed_weights(self.network)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_factory(self.weights)
        if isinstance(optimizer, ZOSGD):
            # Once: weights that have moved would give another one.
            queries = self.query_scheduler.queries(0, 0)
            lr = self.default_lr or self.estimator.default_lr
            lr = lr or self.perturber.default_lr(self.weights, queries)
            self.default_lr = lr if optimizer.settle(lr) else None
        if self.scheduler_factory is None:
            return optimizer
        return [optimizer], [self.scheduler_factory(optimizer)]

    # One step

    @torch.no_grad()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Estimate on one batch; after ``micro_batches`` of them, step."""
        with self._first("train"):
            self._train(batch)

    def _first(self, stage: str) -> AbstractContextManager[None]:
        """The first batch of a stage compiles what it runs. What that leaves would lie between the
        batch's activations and keep the C library from using their memory again.
        """
        known, self._stages = stage in self._stages, self._stages | {stage}
        return nullcontext() if known else returning_memory()

    def _train(self, batch: Any) -> None:
        started = time.perf_counter()
        self.network.eval()
        if self._pending is None:
            self._pending = _Pending(self._keys(), started)
        pending = self._pending
        # A single pass, both signs of one direction, would keep what no other reads.
        several = len(pending.keys) > 1 or not (self.pairable and self.estimator.paired)
        with self.reading.same_batch() if several else nullcontext():
            pending.estimates.append(self.estimate(batch, pending.keys))
        last = bool(getattr(self.trainer, "is_last_batch", False))
        if len(pending.estimates) < self.micro_batches and not last:
            return
        self._pending = None
        self._step(pending)
        losses = torch.stack([estimate.loss for estimate in pending.estimates])
        self.log("train_loss", losses.mean(), prog_bar=True)
        self.log("step_ms", 1e3 * (time.perf_counter() - pending.started), prog_bar=True)
        self.log("skipped_queries", float(self.skipped_queries))
        self.log_dict(self.estimator.metrics())

    def estimate(self, batch: Any, keys: list[int]) -> Estimate:
        """What a batch says of the directions ``keys``."""
        losses = Losses(self.objective, self.network, batch)
        return self.estimator.estimate(
            losses, self.reading, keys, self.perturber.eps, self.pairable
        )

    def _keys(self) -> list[int]:
        count = self.query_scheduler.queries(self.global_step, self.current_epoch)
        return [fold(self.seed, _QUERY, self.global_step, query) for query in range(count)]

    def _step(self, pending: "_Pending") -> None:
        """Step on the queries whose loss was finite; an empty step still counts.

        Raises:
            UserError: after ``max_skipped`` skipped queries in a row.
        """
        values = self.estimator.combine(pending.estimates).float().cpu()
        finite = torch.isfinite(values)
        for good in finite.tolist():
            self._skipped_in_row = 0 if good else self._skipped_in_row + 1
            self.skipped_queries += not good
        if self._skipped_in_row >= self.max_skipped:
            raise UserError(
                f"the loss was NaN or infinite for {self._skipped_in_row} queries in a row at step "
                f"{self.global_step}; the weights keep their last good state: lower lr or eps, or "
                "use dtype float32"
            )
        keys, values = torch.tensor([signed(key) for key in pending.keys])[finite], values[finite]
        rounding_key = fold(self.seed, _ROUNDING, self.global_step)
        gradient = ProjectedGradient(keys, self.estimator.finish(values), rounding_key)
        optimizer, step = self.optimizers(), self.global_step
        rates = tuple(float(group["lr"]) for group in optimizer.param_groups)  # type: ignore[union-attr]
        # Through Lightning's wrapper: only so do global_step and max_steps advance.
        optimizer.step(gradient=gradient)  # type: ignore[union-attr]
        skipped = (self.skipped_queries, self._skipped_in_row)
        self.taken = TakenStep(step, rates, gradient, values, *skipped)
        scheduler = self.lr_schedulers()
        if scheduler is not None:
            scheduler.step()  # type: ignore[union-attr]

    # Evaluation

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("val", batch)

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate("test", batch)

    @torch.no_grad()
    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Predicted index and probability of each answer."""
        scores = self.objective.scores(self.network, batch)
        return {"prediction": scores.argmax(dim=1), "probabilities": scores.softmax(dim=1)}

    def _evaluate(self, stage: str, batch: Any) -> None:
        self.network.eval()
        with self._first("evaluation"):
            scores = self.objective.scores(self.network, batch)
        targets = self.objective.targets(batch)
        if stage not in self._evaluations:
            found = Evaluation(scores.shape[1], scores.device, reads_text=stage == "test")
            self._evaluations[stage] = found
        self._evaluations[stage].update(self.network, batch, scores, targets)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test")

    def _log_metrics(self, stage: str) -> None:
        if stage not in self._evaluations:
            return
        self.evaluated[stage] = found = self._evaluations.pop(stage)
        for name, value in found.figures().items():
            self.log(f"{stage}_{name}", value, prog_bar=name == "accuracy")

    # Checkpoints: plain tensors of the tuned weights, loadable with weights_only=True

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """Tensors of the tuned weights; the frozen ones are the base model's."""
        return {} if self.model is None else weight_tensors(self.model)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Copy `state_dict` into the prepared model.

        Raises:
            UserError: if it is not of this model and recipe.
        """
        load_weight_tensors(self.network, dict(state_dict))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["zolit_fingerprint"] = self.fingerprint
        checkpoint["zolit_skipped_queries"] = self.skipped_queries
        checkpoint["zolit_skipped_in_row"] = self._skipped_in_row
        if "loops" in checkpoint:
            fit_loop = checkpoint["loops"]["fit_loop"]
            checkpoint["loops"]["fit_loop"] = mended_loop_state(fit_loop)
        if self.started:
            checkpoint["zolit_started"] = self.started
        checkpoint["zolit_estimator"] = self.estimator.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint.get("zolit_fingerprint")
        if theirs is None:
            raise UserError("ckpt_path: the file is not a checkpoint of zolit; give one of a run's")
        check_started(self.started, checkpoint.get("zolit_started", []))
        check_fingerprint(self.fingerprint, theirs)
        self.skipped_queries = checkpoint["zolit_skipped_queries"]
        self._skipped_in_row = checkpoint.get("zolit_skipped_in_row", 0)
        self.estimator.load_state_dict(checkpoint.get("zolit_estimator", {}))


@dataclass(frozen=True)
class _Pending:
    """A step half made: its directions and what its micro-batches have said of them so far."""

    keys: list[int]
    started: float
    estimates: list[Estimate] = field(default_factory=list)
