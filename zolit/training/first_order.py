"""Tuning by gradients: the papers' first-order baselines on the same model, rows and metrics."""

import time
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zolit.arguments import at_least, positive
from zolit.errors import UserError
from zolit.evaluations import Evaluation
from zolit.kernels.dispatch import Preference
from zolit.models.adapters import Adapter
from zolit.models.passes.calls import check_calls
from zolit.models.passes.recomputed import recompute_blocks
from zolit.models.prepare import Parts
from zolit.models.source import ModelSource
from zolit.models.trained import Gradients, Trained, to_stored
from zolit.noise import fold
from zolit.objectives.base import Objective
from zolit.options import OnResume
from zolit.strategies import Pruned, Quantizer
from zolit.tensors.reading import Reading
from zolit.training.dtype import DTYPES
from zolit.training.gradient_parts import check_gradient_parts, warn_of_bfloat16
from zolit.training.module import TuningModule
from zolit.training.pending import PendingStep
from zolit.training.skipped import skipped_steps

_DATA = 2
"""Stream of a step's key for the random numbers of its objective, as in `ZeroOrderModule`."""


class FirstOrderModule(TuningModule):
    """Fine-tunes a language model by gradients, as the papers' baselines do.

    What is trained follows from ``quantizer`` and ``tune``:

    | quantizer | tune | method |
    |---|---|---|
    | `NoQuantizer` | ``linear``, ``norms``, ... | full fine-tuning |
    | `NoQuantizer` | ``adapter`` | LoRA |
    | any | ``adapter`` | LoRA over stored weights, as QLoRA (arXiv 2305.14314) |
    | `Int8`, `Int4`, `Float8` | ``linear`` | straight-through estimator (`MasterWeight`) |

    The model runs in eval mode, without dropout, so that both kinds of runs minimize the same loss.
    A step is no function of a few numbers, so there is no journal: a run resumes from its last
    checkpoint, and cannot be replayed, verified or published.

    Args:
        source: the model to start from.
        quantizer: how its linear layers are stored, or rounded in each pass if they are trained.
        objective: what is minimized; by default `OptionScoring`.
        evaluation: what is reported; by default what fits the objective.
        optimizer: of torch; by default AdamW with an lr of 1e-5 and no weight decay.
        lr_scheduler: stepped after every optimizer step.
        tune: what is trained: ``linear``, ``output``, ``embeddings``, ``norms``, ``biases``,
            ``adapter``, or parameter-name patterns. By default the adapter if there is one, else
            ``linear``.
        adapter: small float factors beside layers of the model, such as ``LoRA``.
        mask: ``Pruned``: entries that pruning set to zero get no gradient. None: all move.
        start_from: a checkpoint of an earlier run, or several, as in `ZeroOrderModule`.
        dtype: ``bfloat16`` or ``float32``, of activations and of weights that stay floats; null
            takes the one that this machine multiplies faster.
        master_dtype: of trained weights that a quantizer rounds: ``float32``, or ``model`` for
            ``dtype``. Half of the memory of their gradients and of the optimizer's state depends on
            it.
        seed: of the random numbers of the objective.
        micro_batches: batches whose gradients a step averages.
        gradient_clip: the largest norm of all gradients together; longer ones are scaled down to
            it. None leaves them.
        gradient_checkpointing: keep the inputs of blocks alone and run each block again in the
            backward pass.
        kernels: ``auto``, ``compiled`` or ``reference`` (plain torch).
        max_skipped: stop after this many steps in a row whose loss or gradient was NaN or infinite.

    Attributes:
        skipped: counts the steps that moved nothing, as loss or gradient was NaN or infinite.

    Raises:
        UserError: if an option is out of range or two parts do not combine.

    Example:
        >>> from zolit import Int4, LoRA
        >>> module = FirstOrderModule(ModelSource("models/llama"), Int4(), adapter=LoRA())
        >>> module.tune
        ['adapter']
    """

    on_resume: ClassVar[Mapping[str, OnResume]] = {
        **dict.fromkeys(
            (
                "objective",
                "seed",
                "micro_batches",
                "gradient_clip",
                "gradient_checkpointing",
                "kernels",
                "max_skipped",
            ),
            OnResume.FREE,
        ),
        **dict.fromkeys(("source", "tune", "start_from", "dtype"), OnResume.COMPARED),
        "evaluation": OnResume.REPORTED,
    }

    def __init__(
        self,
        source: ModelSource,
        quantizer: Quantizer,
        objective: Objective | None = None,
        evaluation: Evaluation | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(
            params, lr=1e-5, weight_decay=0.0
        ),
        lr_scheduler: LRSchedulerCallable | None = None,
        tune: list[str] | None = None,
        adapter: Adapter | None = None,
        mask: Pruned | None = None,
        start_from: str | list[str] | None = None,
        dtype: str | None = "bfloat16",
        master_dtype: Literal["model", "float32"] = "float32",
        seed: int = 0,
        micro_batches: int = 1,
        gradient_clip: float | None = None,
        gradient_checkpointing: bool = False,
        kernels: Preference = "auto",
        max_skipped: int = 10,
    ) -> None:
        at_least("micro_batches", micro_batches)
        at_least("max_skipped", max_skipped)
        if gradient_clip is not None:
            positive("gradient_clip", gradient_clip, "try 1.0, or leave it out")
        super().__init__(
            reading=Reading(None, kernels),
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
            compile="none",
        )
        self.automatic_optimization = False
        self.mask = mask
        check_gradient_parts(self.quantizer, self.objective, self.tune)
        self.masters_in_float32 = master_dtype == "float32"
        self.micro_batches = micro_batches
        self.gradient_clip = gradient_clip
        self.gradient_checkpointing = gradient_checkpointing
        self.skipped = skipped_steps(max_skipped)
        self._pending: PendingStep | None = None

    # Construction

    def parts(self) -> Parts:
        forward, how = self.objective.rehearsal(), (Gradients(), self.reading, self.tune)
        return self.quantizer, *how, self.adapter, forward, self.mask

    def preparation(self) -> Trained:
        masters = torch.float32 if self.masters_in_float32 else DTYPES[self.dtype_name]
        return Trained(*self.parts(), master_dtype=masters)

    def arrange(self, model: nn.Module, pairable: bool) -> None:
        check_calls(model)
        if self.gradient_checkpointing:
            recompute_blocks(model)
        warn_of_bfloat16(model)

    @property
    def weights(self) -> list[Tensor]:
        """The parameters that gradients move, in the order of the model."""
        return [one for one in self.network.parameters() if one.requires_grad]

    def step_figures(self) -> list[str]:
        return [*super().step_figures(), "gradient_norm", "skipped_steps"]

    def finished(self) -> nn.Module:
        """The model; in place of trained weights that a quantizer rounds, their codes."""
        to_stored(self.network)
        return self.network

    # One step

    @property
    def between_steps(self) -> bool:
        """Whether no step is pending that waits for further micro-batches."""
        return self._pending is None

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Add the gradient of one batch; after ``micro_batches`` of them, step."""
        with self.first_of("train"):
            self._train(batch)

    def _train(self, batch: Any) -> None:
        started = time.perf_counter()
        self.network.eval()
        pending = self._pending = self._pending or PendingStep(started)
        data_key = fold(self.seed, _DATA, self.global_step, len(pending.losses))
        pending.losses.append(self.add_gradient(batch, data_key))
        last = bool(getattr(self.trainer, "is_last_batch", False))
        if len(pending.losses) < self.micro_batches and not last:
            return
        self._pending = None
        losses = torch.stack(pending.losses)
        norm = self._step(losses)
        self.log("train_loss", losses.mean(), prog_bar=True)
        self.log("step_ms", 1e3 * (time.perf_counter() - pending.started), prog_bar=True)
        self.log("gradient_norm", norm)
        self.log("skipped_steps", float(self.skipped.count))

    def add_gradient(self, batch: Any, data_key: int = 0) -> Tensor:
        """Add the gradient of a batch's loss to that of each trained weight.

        Args:
            batch: of the data module.
            data_key: key of the objective's random numbers.

        Returns:
            The loss, a float32 scalar without a gradient. Where it is NaN or infinite, nothing is
            added.

        Raises:
            UserError: if the loss does not depend on a trained weight.
        """
        loss = self.loss(batch, data_key)
        self.passes.forwards += 1
        if torch.isfinite(loss):
            loss.backward()
            self.passes.backwards += 1
            self.passes.forwards += self.gradient_checkpointing  # the blocks run again
        return loss.detach()

    def loss(self, batch: Any, data_key: int = 0) -> Tensor:
        """The loss of a batch, a float32 scalar whose gradient can be asked for.

        Raises:
            UserError: if it does not depend on a trained weight.
        """
        drawn = self.objective.draw(batch, data_key)
        found = self.objective.losses(self.network, drawn)[0]
        if not found.requires_grad:
            raise UserError(
                "objective: the loss has no gradient, expected one that depends on the trained "
                "weights; call the model that the objective is given, outside of torch.no_grad"
            )
        return found

    def _step(self, losses: Tensor) -> Tensor:
        """Step along the mean gradient of some batches; an empty step still counts.

        Returns:
            Norm of the gradient, before it is clipped.

        Raises:
            UserError: after ``max_skipped`` steps in a row that could not be made.
        """
        weights = [one for one in self.weights if one.grad is not None]
        gradients = [one.grad for one in weights if one.grad is not None]
        if len(losses) > 1:
            for one in gradients:
                one.div_(len(losses))
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        sound = bool(torch.isfinite(losses).all() and torch.isfinite(norm))
        optimizer: Any = self.optimizers()
        self.skipped.note([sound], self.global_step)
        if not sound:
            self._forget_gradients()
        elif self.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(weights, self.gradient_clip, norm)
        # Through Lightning's wrapper: nothing else advances global_step and max_steps.
        optimizer.step()
        self._forget_gradients()
        schedule: Any = self.lr_schedulers()
        if schedule is not None:
            schedule.step()
        return norm

    def _forget_gradients(self) -> None:
        for one in self.weights:
            one.grad = None

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        self.skipped.save(checkpoint)
        if self._pending is not None:  # between two batches of a step
            self._pending.save(checkpoint, self.weights)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.skipped.load(checkpoint)
        self._pending = PendingStep.load(checkpoint, self.weights)
