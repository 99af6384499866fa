"""Pruning as a LightningModule: one training step prunes one decoder block."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from zolit.calibration.chain import Chain
from zolit.calibration.hidden_states import (
    Activations,
    HiddenStates,
    StatesInMemory,
    StatesOnDisk,
)
from zolit.calibration.layers import BlockLayer, block_layers
from zolit.calibration.model_digest import float_digests
from zolit.calibration.options import CalibrationText
from zolit.calibration.region import Region
from zolit.calibration.text import Window
from zolit.calibration.work import text_digest
from zolit.errors import UserError, tell
from zolit.evaluations import Evaluation, Perplexity, evaluation_for
from zolit.models.prepare import Parts
from zolit.models.source import ModelSource
from zolit.models.trained import Gradients, Trained
from zolit.objectives.base import Objective
from zolit.objectives.language_modeling import LanguageModeling
from zolit.options import OnResume, described
from zolit.strategies import (
    NoQuantizer,
    Pattern,
    Pruner,
    Ratio,
    Reconstruction,
    Wanda,
)
from zolit.strategies.pruner.base import kept_fraction
from zolit.strategies.pruner.one_shot import prune_region
from zolit.supports import Bits
from zolit.tensors.reading import Reading
from zolit.training.module import TuningModule
from zolit.training.new_weights import NewWeights
from zolit.training.pruned_blocks import BlockFigures, PrunedBlocks


class PruningModule(TuningModule):
    """Prunes a causal language model block by block, on the outputs of the pruned blocks before.

    A training step takes the number of a block: it runs the calibration text through the block,
    lets the pruner set entries of its linear layers to zero, and runs the text through the pruned
    block, for the inputs of the next. `zolit prune` makes the steps in order and keeps each block.

    Args:
        source: the model to prune; its weights are read as floats.
        pruner: which entries become zero, and what the others become; by default `Wanda`.
        pattern: how many entries are left, and where; by default half of each row.
        reconstruction: changes what is left so that a block gives what it gave; None for nothing.
        calibration: the text that shows how the layers are used.
        objective: of the evaluation, where that needs one; by default `LanguageModeling`.
        evaluation: what is reported before and after; by default `Perplexity`, or what fits the
            objective.
        start_from: a checkpoint of an earlier run of the same source without a quantizer, or
            several: the model is pruned as it was tuned.
        dtype: ``bfloat16`` or ``float32``, of the model's weights; null takes the one that this
            machine multiplies faster. Sums, gradients and the pruner's own numbers are float32.
        activations: where the hidden states of the calibration text lie: in ``memory``, or on the
            ``disk`` in the run's folder, a window at a time in memory.

    Raises:
        UserError: if an option is out of range.

    Example:
        >>> from zolit.models.source import ModelSource
        >>> PruningModule(ModelSource("models/llama")).pattern.title
        '0.5 of each row'
    """

    on_resume: ClassVar[Mapping[str, OnResume]] = {
        "evaluation": OnResume.REPORTED,
        "objective": OnResume.REPORTED,
        "activations": OnResume.FREE,
    }

    def __init__(
        self,
        source: ModelSource,
        pruner: Pruner | None = None,
        pattern: Pattern | None = None,
        reconstruction: Reconstruction | None = None,
        calibration: CalibrationText = CalibrationText(),  # noqa: B008 (it is frozen)
        objective: Objective | None = None,
        evaluation: Evaluation | None = None,
        start_from: str | list[str] | None = None,
        dtype: str | None = "bfloat16",
        activations: Activations = "memory",
    ) -> None:
        if activations not in ("memory", "disk"):
            raise UserError(f"activations: got {activations!r}, expected memory or disk")
        if evaluation is None:
            evaluation = Perplexity() if objective is None else evaluation_for(objective)
        super().__init__(
            reading=Reading(None, "reference"),
            source=source,
            quantizer=NoQuantizer(),
            objective=objective or LanguageModeling(),
            evaluation=evaluation,
            optimizer=NewWeights,
            lr_scheduler=None,
            tune=["linear"],
            adapter=None,
            start_from=start_from,
            dtype=dtype,
            seed=calibration.seed,
            compile="none",
        )
        self.automatic_optimization = False
        self.pruner = pruner or Wanda()
        self.pattern = pattern or Ratio()
        self.reconstruction = reconstruction
        self.calibration = calibration
        self.activations: Activations = activations
        self.steps_before = 0
        self._fit: _Fit | None = None
        self._work: _Work | None = None

    # Construction

    def parts(self) -> Parts:
        how = Gradients(), self.reading, self.tune
        return self.quantizer, *how, None, self.objective.rehearsal(), None

    def preparation(self) -> Trained:
        """Linear layers stay floats; those that move are the ones of a checkpoint."""
        return Trained(*self.parts())

    @property
    def weights(self) -> list[Tensor]:
        """The weights of linear layers, in the order of the model."""
        return [one for one in self.network.parameters() if one.requires_grad]

    def step_figures(self) -> list[str]:
        return ["output_error", "kept", "step_ms"]

    # Blocks

    def check(self, windows: Sequence[Window]) -> None:
        """Refuse what cannot be pruned, before anything is written; the model is loaded.

        Args:
            windows: of the calibration text.

        Raises:
            UserError: if the model's blocks cannot be gone through one after another, or a layer
                cannot have the pattern.
        """
        self.network.eval()
        layers = self._layers()
        self._fit = _Fit(Chain(self.network, windows), layers, self._claim(windows))

    def begin(self, folder: Path) -> list[int]:
        """Get ready to prune the blocks that are left.

        Args:
            folder: with the blocks of this run that are pruned already, if there are any; new ones
                are written into it.

        Returns:
            The numbers of the blocks that are left.

        Raises:
            UserError: if the folder's blocks are of another model or of other options.
            RuntimeError: before `check`.
        """
        if self._fit is None:
            raise RuntimeError("no text has been given yet; call check(windows) first")
        chain, layers = self._fit.chain, self._fit.layers
        kept = PrunedBlocks(folder, self._fit.claim)
        kept.begin()
        done = kept.restore(self.network)
        states: HiddenStates = (
            StatesOnDisk(chain, folder, done)
            if self.activations == "disk"
            else StatesInMemory(chain, done)
        )
        self._work = _Work(layers, kept, states)
        return list(range(done, len(chain)))

    @property
    def kept_blocks(self) -> PrunedBlocks:
        """The blocks that are pruned.

        Raises:
            RuntimeError: before `begin`.
        """
        return self._ready.kept

    @property
    def _ready(self) -> "_Work":
        if self._work is None:
            raise RuntimeError("no block can be pruned yet; call check(windows), begin(folder)")
        return self._work

    def _layers(self) -> dict[str, list[BlockLayer]]:
        """The layers to prune by block, each fit for the pattern; tells which are left dense."""
        layers, others = block_layers(self.network)
        for one in (layer for some in layers.values() for layer in some):
            self.pattern.check(one.path, one.shape[1])
        if not layers:
            raise UserError(
                f"model.source: the blocks of {type(self.network).__name__} hold no linear layers, "
                "whose weights are pruned; give a model whose blocks do"
            )
        if others:
            tell(
                f"{len(others)} weights are not those of linear layers (experts: {others[0]}) and "
                "stay dense"
            )
        return layers

    def _claim(self, windows: Sequence[Window]) -> dict[str, object]:
        """What the pruned blocks depend on, by the name of the option."""
        return {
            "pruner": described(self.pruner),
            "pattern": described(self.pattern),
            "reconstruction": described(self.reconstruction),
            "text": text_digest([(one.ids, one.start) for one in windows]),
            "dtype": self.dtype_name,
            "model": float_digests(self.network),
        }

    @torch.no_grad()
    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Prune one block.

        Args:
            batch: number of the block; blocks come in order.
            batch_idx: ignored.

        Raises:
            UserError: naming the block, if its outputs or its new weights are not finite.
        """
        began = time.perf_counter()
        self.network.eval()
        work, number = self._ready, int(batch)
        region = Region(work.layers.get(work.states.chain.blocks[number][0], ()), work.states)
        how = self.reconstruction if region.layers else None
        rebuild = prune_region if how is None else how.rebuild
        found = rebuild(region, self.pruner, self.pattern)
        # Through Lightning's wrapper: nothing else advances global_step.
        optimizer: Any = self.optimizers()
        optimizer.step(values=region.held({path: one.values for path, one in found.items()}))
        error = work.states.advance()
        kept = kept_fraction(found.values())
        seconds = time.perf_counter() - began
        weights = {one.path: self.network.get_parameter(one.path).detach() for one in region.layers}
        supports = {path: Bits.of(one.kept) for path, one in found.items()}
        figures = BlockFigures(region.path, error, kept, round(seconds, 3))
        work.kept.save(number, weights, supports, figures)
        work.states.forget()
        self.log("output_error", error, prog_bar=True)
        self.log("kept", kept)
        self.log("step_ms", 1e3 * seconds)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["zolit_skipped_steps"] = 0


class _Fit(NamedTuple):
    """A model and a text that fit each other.

    Attributes:
        chain: the blocks, with the text.
        layers: those to prune, by block.
        claim: what the pruned blocks depend on.
    """

    chain: Chain
    layers: dict[str, list[BlockLayer]]
    claim: dict[str, object]


class _Work(NamedTuple):
    """What a step needs beside the model.

    Attributes:
        layers: those to prune, by block.
        kept: the blocks that are pruned.
        states: inputs of the next block.
    """

    layers: dict[str, list[BlockLayer]]
    kept: PrunedBlocks
    states: HiddenStates
