"""What memory a run needs: its model built and stepped on the meta device."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zolit.checkpoints.tensors import weight_tensors
from zolit.coordinates import LowRank
from zolit.formats.base import StoredWeight
from zolit.gradient import ProjectedGradient
from zolit.memory import compiler
from zolit.memory.batches import PER_SHAPE, Batches
from zolit.memory.counting import (
    bytes_of,
    codes_and_scales,
    evaluate,
    float_tensors,
    kept_as_read,
    passing,
    skeleton,
    state_tensors,
)
from zolit.memory.kinds import OneOfAKind
from zolit.models.families import last_logits
from zolit.models.loading.kept_layers import KeptLayers
from zolit.models.plan import Planned
from zolit.models.prepare import Preparation
from zolit.models.trials.pairs import try_pairs
from zolit.optim import ZOSGD, OpenRate
from zolit.tensors.weight import stored_weights
from zolit.training.dtype import DTYPES
from zolit.training.zero_order import ZeroOrderModule


class SameOfAKind(Preparation):
    """Quantizes one weight of each kind (`OneOfAKind`).

    Of a quantized checkpoint one layer of each kind and format is read.

    Attributes:
        kinds: what was quantized.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.kinds = OneOfAKind()

    def store(self, one: Planned, value: Tensor) -> StoredWeight:
        make = partial(super().store, one, value)
        if not one.quantized:
            return self.kinds.measured(value, make)
        return self.kinds.store(one.path, value, make, self._form(one), one.index is None)

    def _form(self, one: Planned) -> str | None:
        """The format of a layer that a checkpoint keeps."""
        if isinstance(self.quantizer, KeptLayers) and one.path in self.quantizer.layers:
            return self.quantizer.layers[one.path].form
        return None


@dataclass(frozen=True)
class Estimate:
    """Bytes of a run, part by part.

    Attributes:
        codes: codes of the quantized weights.
        scales: their scales and zero points.
        floats: weights that stay floats: embeddings, norms, output; all of them unquantized.
        feedback: what rounding left of each code, for error feedback.
        masks: which coordinates move, a bit each, where a mask names them.
        loading: the largest weight as floats while it is quantized, with the quantizer's
            temporaries.
        gradients: of the weights that gradients move.
        states: what an optimizer keeps of each weight, or of earlier directions.
        anchors: copies of the weights that move, which an estimator keeps.
        workspace: buffers that decoded rows and sums over queries are written to.
        step: activations at the peak of a training step; of a backward pass what is there beyond
            all gradients.
        update: temporaries of the update of the weights, besides the workspace.
        evaluation: activations at the peak of a validation or test batch.
        checkpoint: the best checkpoint's tensors when they are read back for the last test.
        base: Python and the libraries, with the rows and prompts; 0 if the model is on a GPU.
        shapes: memory that stays for further shapes of batches; 0 if the model is on a GPU.
        compiler: memory that stays after the kernels are compiled; 0 if none are.
        compiling: further memory while they are compiled.
    """

    codes: int
    scales: int
    floats: int
    feedback: int
    masks: int
    loading: int
    workspace: int
    step: int
    update: int
    evaluation: int
    checkpoint: int
    base: int
    shapes: int
    compiler: int
    compiling: int
    gradients: int = 0
    states: int = 0
    anchors: int = 0

    @property
    def weights(self) -> int:
        """The parts that stay: stored weights, scales, floats, masks, and what optimizers keep."""
        kept = self.feedback + self.states + self.anchors
        return self.codes + self.scales + self.floats + self.masks + kept

    @property
    def peak_loading(self) -> int:
        """The process at its largest while the model is loaded."""
        return self.base + self.weights + self.loading

    @property
    def passing(self) -> int:
        """The largest of the parts that come and go during the run; only one is there at a time."""
        stepping = self.gradients + max(self.step, self.update)
        return max(stepping, self.evaluation, self.checkpoint, self.compiling)

    @property
    def peak_running(self) -> int:
        """The process at its largest after loading."""
        process = self.base + self.compiler + self.shapes
        return process + self.weights + self.workspace + self.passing

    @property
    def total(self) -> int:
        """The process at its largest."""
        return max(self.peak_loading, self.peak_running)


@torch.no_grad()
def estimate_memory(
    module: ZeroOrderModule, batches: Batches, base: int, reads_checkpoint: bool = False
) -> Estimate:
    """What a run of this module needs.

    The model is built from its configuration on the meta device. No weight is read, except one
    layer of each kind if a quantized checkpoint keeps its codes. A step and an evaluation run on
    the meta device on the largest batches, and the storages that they make are counted. Blocks
    count as not compiled; `compile: blocks` fuses temporaries and needs less.

    Args:
        module: as made from a recipe, without a model yet; it gets the one on the meta device.
        batches: the largest batches, on the CPU.
        base: bytes of the process before the model is loaded; 0 on a GPU, where the process is
            not counted.
        reads_checkpoint: whether the best checkpoint is read back.

    Raises:
        UserError: whatever the recipe is refused for.
    """
    compiled = module.reading.compiled
    dtype = DTYPES[module.dtype_name]
    model, quantizer = skeleton(module, dtype)
    preparation = SameOfAKind(quantizer, *module.parts()[1:])
    plan = preparation.plan(preparation.adapt(model))
    quantized_paths = {one.path for one in plan.weights if one.quantized}
    kept = kept_as_read(model, quantized_paths)
    preparation.apply(model, plan)
    told = module.estimator.paired
    module.model = model
    module.objective.try_out(model)
    module.evaluation.try_out(model)
    module.pairable = try_pairs(model, last_logits, plan.pairable, tell=told).pairable
    optimizer = module.optimizer_factory(module.weights)
    if isinstance(optimizer, OpenRate):
        optimizer.settle(1.0)  # any rate: tensors on the meta device hold no numbers
    update = passing(_update, module, optimizer)
    step = passing(_step, module, batches.train)
    if module.reading.lengths is not None:
        with module.reading.lengths.as_if_learning():
            step = max(step, passing(_step, module, batches.train))
    evaluation = 0
    if batches.evaluation is not None:
        evaluation = passing(evaluate, module, batches.evaluation)
    weights = list(stored_weights(module.network))
    quantized = [weight.store for weight in weights if weight.store.quantized]
    codes, scales = codes_and_scales(quantized)
    errors = [weight.store.error for weight in weights if weight.store.error is not None]
    states = state_tensors(optimizer)
    residuals = [one["residual"] for one in optimizer.state.values() if "residual" in one]
    tuned = bytes_of(weight_tensors(module.network).values()) if reads_checkpoint else 0
    return Estimate(
        codes=codes,
        scales=scales,
        floats=bytes_of(float_tensors(module.network)),
        feedback=bytes_of([*errors, *residuals]),
        masks=bytes_of(_bits(module)),
        loading=max([preparation.kinds.passing, *kept]),
        workspace=module.reading.workspace.bytes,
        step=step,
        update=update,
        evaluation=evaluation,
        checkpoint=tuned,
        base=base,
        shapes=PER_SHAPE * (batches.shapes - 1) if base else 0,
        compiler=compiler.LEFT if compiled else 0,
        compiling=compiler.PASSING if compiled else 0,
        states=bytes_of(states) - bytes_of(residuals),
        anchors=bytes_of(module.estimator.tensors()),
    )


def _step(module: ZeroOrderModule, batch: Any) -> None:
    # Two queries need as much as more: they run one after another and share their memory.
    keys = list(range(min(2, module.query_scheduler.queries(0, 0))))
    module.estimate(batch, module.estimator.directions(keys))


def _update(module: ZeroOrderModule, optimizer: Any) -> None:
    drawn = torch.arange(module.query_scheduler.queries(0, 0))
    if not module.estimator.tensors():  # an anchor is made by the first step alone
        keys = drawn.repeat(module.estimator.measures)
        first = ProjectedGradient(keys, torch.ones(len(keys)), 1)
        module.estimator.finish(first.values)
        module.estimator.before_step(first, module.weights)
    queries = len(module.estimator.directions(drawn.tolist()))
    # Of most directions only the sum is there, which two need as much as more.
    count = min(2, queries)
    sites = (weight.site for weight in module.weights)
    if any(site is not None and isinstance(site.coordinates, LowRank) for site in sites):
        most = optimizer.most_directions(queries) if isinstance(optimizer, ZOSGD) else queries
        # Momentum remembers the first of the two steps that are made here.
        count = queries if most == queries else -(-most // 2)
    count *= module.estimator.measures
    optimizer.step(gradient=ProjectedGradient(torch.arange(count), torch.ones(count), 1))


def _bits(module: ZeroOrderModule) -> list[Tensor]:
    found = [weight.site.support.bits() for weight in module.weights if weight.site is not None]
    return [bits for bits in found if bits is not None]
