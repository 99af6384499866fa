"""What memory a first-order run needs: its backward pass and its optimizer, on the meta device."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from zolit.checkpoints.tensors import weight_tensors
from zolit.formats.base import StoredWeight
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
from zolit.memory.estimate import Estimate
from zolit.memory.kinds import OneOfAKind
from zolit.memory.tracker import AsOnDevice, LiveBytes
from zolit.models.parts import Excluded, StoresWeights
from zolit.tensors.weight import stored_weights
from zolit.training.dtype import DTYPES
from zolit.training.first_order import FirstOrderModule

GPU_NOTE = (
    "on a GPU torch's optimizers step on all weights at once (foreach), which takes up to the size "
    "of the trained weights more than is counted here; init_args.foreach: false keeps to it"
)
"""What the estimate does not tell."""


class _Cached:
    """A quantizer that rounds one weight of each kind (`OneOfAKind`).

    Args:
        quantizer: that is asked once for each kind.
    """

    def __init__(self, quantizer: StoresWeights) -> None:
        self._quantizer = quantizer
        self.kinds = OneOfAKind()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quantizer, name)

    def calibrate(self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None) -> None:
        """Do nothing: no weight is read."""

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> StoredWeight:
        """A weight of the right shapes, on the meta device."""
        return self.kinds.store(path, weight, lambda: self._quantizer.store(weight, path))


def estimate_first_order(
    module: FirstOrderModule, batches: Batches, base: int, reads_checkpoint: bool = False
) -> Estimate:
    """What a run of this module needs.

    The model is built from its configuration on the meta device. A forward and a backward pass, a
    step of the optimizer and an evaluation run there on the largest batches, and the storages that
    they make are counted.

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
    model, quantizer = skeleton(module, DTYPES[module.dtype_name])
    cached = _Cached(quantizer)
    preparation = replace(module.preparation(), quantizer=cast(StoresWeights, cached))
    plan = preparation.plan(preparation.adapt(model))
    stored = [one for one in plan.weights if one.quantized and not preparation.trains(one)]
    paths = {one.path for one in stored}
    kept = kept_as_read(model, paths)
    preparation.apply(model, plan)
    module.model = model
    module.objective.try_out(model)
    module.evaluation.try_out(model)
    module.arrange(model, False)
    optimizer = module.optimizer_factory(module.weights)
    step, update = _step(module, optimizer, batches.train)
    evaluation = 0
    if batches.evaluation is not None:
        with torch.no_grad():
            evaluation = passing(evaluate, module, batches.evaluation)
    quantized = [weight.store for weight in stored_weights(module.network)]
    codes, scales = codes_and_scales(quantized)
    gradients = bytes_of(module.weights)
    accumulates = module.micro_batches > 1
    return Estimate(
        codes=codes,
        scales=scales,
        floats=bytes_of(float_tensors(module.network)),
        feedback=0,
        masks=0,
        loading=max([cached.kinds.passing, *kept]),
        workspace=module.reading.workspace.bytes,
        step=max(0, step - gradients),
        update=max(0, update - gradients),
        # A validation may come between two batches of a step.
        evaluation=evaluation + gradients * accumulates,
        checkpoint=bytes_of(weight_tensors(model).values()) if reads_checkpoint else 0,
        base=base,
        shapes=PER_SHAPE * (batches.shapes - 1) if base else 0,
        compiler=compiler.LEFT if compiled and quantized else 0,
        compiling=compiler.PASSING if compiled and quantized else 0,
        gradients=gradients,
        states=bytes_of(state_tensors(optimizer)),
    )


def _step(
    module: FirstOrderModule, optimizer: torch.optim.Optimizer, batch: Any
) -> tuple[int, int]:
    """Peaks of the bytes that a backward pass and an optimizer's step need, gradients included."""
    step = update = 0
    # The first step also makes what stays: buffers, and the optimizer's state.
    for _ in range(2):
        with LiveBytes() as made, AsOnDevice():
            for _ in range(min(2, module.micro_batches)):
                _backward(module.loss(batch))
        gradients = made.live
        with LiveBytes() as moved, AsOnDevice():
            optimizer.step()
        step, update = made.peak, gradients + moved.peak
        optimizer.zero_grad(set_to_none=True)
    return step, update


def _backward(loss: Tensor) -> None:
    """What ``loss.backward()`` does, with `AsOnDevice` on for blocks that run again.

    A function mode is off inside the functions that it handles, and ``backward`` is one.
    """
    engine: Any = torch.autograd.Variable._execution_engine
    options = {"allow_unreachable": True, "accumulate_grad": True}
    engine.run_backward((loss,), (torch.ones_like(loss),), False, False, (), **options)
