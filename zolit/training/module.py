"""The module that all ways of tuning share: it loads, evaluates and saves the model."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from zolit.allocator import returning_memory
from zolit.arguments import Checked
from zolit.checkpoints.start import Started, check_files, check_started, start_from
from zolit.checkpoints.tensors import (
    check_fingerprint,
    fingerprint,
    load_weight_tensors,
    moving_weights,
    weight_tensors,
)
from zolit.errors import UserError
from zolit.evaluations import Evaluation, evaluation_for
from zolit.gradient import Passes
from zolit.models.adapters import Adapter
from zolit.models.loading.load import load_prepared
from zolit.models.passes.calls import check_calls
from zolit.models.prepare import Parts, Preparation
from zolit.models.source import ModelSource
from zolit.objectives.base import Objective
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Quantizer
from zolit.tensors.reading import Reading
from zolit.training.dtype import DTYPES, faster_dtype
from zolit.training.figures import figures_of
from zolit.training.loop_state import mended_loop_state

Compile = Literal["none", "blocks"]


class TuningModule(Checked, L.LightningModule):
    """Loads a model, evaluates it and saves it; a subclass makes the steps.

    A subclass defines how weights are stored (`parts`), how passes are arranged (`arrange`), and
    the ``training_step``. Its arguments are the options of ``model``. The configuration names it by
    ``model.class_path``.

    Args:
        reading: the state that the stored weights share.
        source: the model to start from.
        quantizer: how its linear layers are stored.
        objective: what is minimized; by default `OptionScoring`.
        evaluation: what is reported; by default what fits the objective (`evaluation_for`).
        optimizer: makes the optimizer from the weights.
        lr_scheduler: makes the schedule of the learning rate from the optimizer.
        tune: what moves; by default the adapter if there is one, else ``linear``.
        adapter: small float factors beside layers of the model.
        start_from: checkpoints of earlier runs.
        dtype: ``bfloat16``, ``float32``, or None for the one that this machine multiplies faster.
        seed: of everything random.
        compile: ``none`` or ``blocks``.

    Attributes:
        projected_gradient: whether steps are made along a `ProjectedGradient`. A module takes the
            optimizers that declare the same; see `takes_optimizer`.
        evaluated: by stage, ``val`` and ``test``: its last evaluations, one for each loader.
        started: checkpoints that the model was started from, besides its source.
        passes: through the network that steps have made since the module was made. A subclass
            counts them; runs report them where they were counted.

    Raises:
        UserError: if an option is out of range or two parts do not combine.

    Example:
        ::

            model:
              class_path: my_module.MyTuningModule # a subclass with a training_step
    """

    projected_gradient: ClassVar[bool] = False

    def __init__(
        self,
        reading: Reading,
        source: ModelSource,
        quantizer: Quantizer,
        objective: Objective | None,
        evaluation: Evaluation | None,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        tune: list[str] | None,
        adapter: Adapter | None,
        start_from: str | list[str] | None,
        dtype: str | None,
        seed: int,
        compile: Compile,
    ) -> None:
        super().__init__()
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
        if tune == []:
            raise UserError("tune: got [], which moves nothing; name what moves, such as linear")
        self.reading = reading
        self.source = source
        self.quantizer = quantizer
        self.objective = objective or OptionScoring()
        self.evaluation = evaluation or evaluation_for(self.objective)
        self.evaluation.bind(self.objective)
        self.optimizer_factory = optimizer
        self.scheduler_factory = lr_scheduler
        self.tune = tune or (["linear"] if adapter is None else ["adapter"])
        self.adapter = adapter
        self.start_files = [start_from] if isinstance(start_from, str) else start_from or []
        self.started: Started = []
        self.dtype_given = dtype is not None
        self.dtype_name = dtype or faster_dtype()
        self.seed = seed
        self.passes = Passes()
        self.compiles_blocks = compile == "blocks"
        self.model: nn.Module | None = None
        self.evaluated: dict[str, list[Evaluation]] = {}
        self._fingerprint: dict[str, Any] | None = None
        self._stages: frozenset[str] = frozenset()
        self._running: dict[str, dict[int, Evaluation]] = {"val": {}, "test": {}}

    # Construction

    def parts(self) -> Parts:
        """The arguments of the model's `Preparation`."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a weight becomes")

    def preparation(self) -> Preparation:
        """How the weights of its model are prepared."""
        return Preparation(*self.parts())

    def arrange(self, model: nn.Module, pairable: bool) -> None:
        """Arrange the passes through a model that has just been loaded.

        Args:
            model: prepared, with its weights.
            pairable: whether two versions of its weights can be read in one pass.
        """

    def configure_model(self) -> None:
        """Load, quantize and wrap the model, once."""
        if self.model is None:
            check_files(self.start_files)
            preparation = self.preparation()
            dtype = DTYPES[self.dtype_name]
            with returning_memory():
                model, pairable = load_prepared(self.source, dtype, preparation)
            self._take(model, pairable)

    def adopt(self, model: nn.Module) -> None:
        """Take a loaded model and prepare its weights in place."""
        check_files(self.start_files)
        self._take(model, self.preparation().prepare(model, self.source.load_tokenizer))

    def _take(self, model: nn.Module, pairable: bool) -> None:
        self.started = start_from(model, self.start_files)
        if self.started:  # masks go by the weights that the run starts from
            self.preparation().choose(model)
        self.objective.try_out(model)
        self.evaluation.try_out(model)
        self.arrange(model, pairable)
        # Every step switches to eval mode itself; Lightning warns of a fit that starts in it.
        self.model = model.train()
        self._fingerprint = None

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
    def weights(self) -> Sequence[Tensor]:
        """The weights that move, in the order of the model."""
        return list(moving_weights(self.network).values())

    def step_figures(self) -> list[str]:
        """Names of the figures that it logs at each step."""
        return ["train_loss", "step_ms"]

    def finished(self) -> nn.Module:
        """The model for other tools; the module is of no further use for training."""
        return self.network

    @classmethod
    def takes_optimizer(cls, optimizer: type) -> bool:
        """Whether an optimizer can make this module's steps.

        Args:
            optimizer: its class. One that steps on a `ProjectedGradient` declares
                ``projected_gradient = True``, and only such modules take it.
        """
        return getattr(optimizer, "projected_gradient", False) is cls.projected_gradient

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_factory(self.weights)
        self.settle_rate(optimizer)
        if self.scheduler_factory is None:
            return optimizer
        return [optimizer], [self.scheduler_factory(optimizer)]

    def settle_rate(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the learning rate of an optimizer without one; does nothing by default."""

    def first_of(self, stage: str) -> AbstractContextManager[None]:
        """A context for a batch of a stage. In the first one large blocks return to the system.

        The first batch triggers compilation. Its small leftover allocations would lie between the
        batch's activations and keep the C library from reusing their memory.
        """
        known, self._stages = stage in self._stages, self._stages | {stage}
        if known:
            return nullcontext()
        check_calls(self.network)  # the user may have compiled it since it was loaded
        return returning_memory()

    # Evaluation

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("val", batch, dataloader_idx)

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("test", batch, dataloader_idx)

    @torch.no_grad()
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Any]:
        """The result of `Evaluation.predict`: columns by name."""
        return self.evaluation.predict(self.network, batch)

    def _evaluate(self, stage: str, batch: Any, loader: int) -> None:
        self.network.eval()
        running = self._running[stage]
        if loader not in running:
            running[loader] = self.evaluation.fresh(self.device)
        with self.first_of("evaluation"):
            running[loader].update(self.network, batch)

    def on_validation_epoch_end(self) -> None:
        self._log_figures("val", self.trainer.val_dataloaders)

    def on_test_epoch_end(self) -> None:
        self._log_figures("test", self.trainer.test_dataloaders)

    def _log_figures(self, stage: str, loaders: Any) -> None:
        """Log each figure; with several loaders the figure of each loader, and their mean."""
        running, self._running[stage] = self._running[stage], {}
        if not running:
            return
        self.evaluated[stage] = list(running.values())
        for name, value in figures_of(running, loaders).items():
            self.log(f"{stage}_{name}", value, prog_bar=name == self.evaluation.primary)

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
        if "loops" in checkpoint:
            fit_loop = checkpoint["loops"]["fit_loop"]
            checkpoint["loops"]["fit_loop"] = mended_loop_state(fit_loop)
        if self.started:
            checkpoint["zolit_started"] = self.started

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        theirs = checkpoint.get("zolit_fingerprint")
        if theirs is None:
            raise UserError("ckpt_path: the file is not a checkpoint of zolit; give one of a run's")
        check_started(self.started, checkpoint.get("zolit_started", []))
        check_fingerprint(self.fingerprint, theirs)
