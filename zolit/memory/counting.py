"""What the estimates of all modules count alike."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.memory.tracker import AsOnDevice, LiveBytes
from zolit.models.experts import joined_experts
from zolit.models.loading.open import meta_model, open_checkpoint
from zolit.models.parts import StoresWeights
from zolit.tensors.weight import stored_weights
from zolit.training.module import TuningModule


def skeleton(module: TuningModule, dtype: torch.dtype) -> tuple[nn.Module, StoresWeights]:
    """The model on the meta device, and the quantizer of its linear layers."""
    preparation = module.preparation()
    if preparation.quantizer.converts:
        config = module.source.load_config(weights=False)
        return meta_model(module.source, config, dtype), preparation.quantizer
    opened = open_checkpoint(module.source, dtype, preparation)
    if isinstance(opened, str):
        raise UserError(f"estimate: {module.source.path!r} cannot be kept as it is: {opened}")
    return opened.skeleton, opened.quantizer


def evaluate(module: TuningModule, batch: Any) -> None:
    """Run what an evaluation runs, without the metrics, which need numbers."""
    module.evaluation.passes(module.network, batch)


def passing(run: Any, module: TuningModule, argument: Any) -> int:
    """Peak of the bytes that a call needs and frees again."""
    # The first call also makes buffers and residuals, which stay.
    for _ in range(2):
        with LiveBytes() as made, AsOnDevice():
            run(module, argument)
    return made.peak


def float_tensors(model: nn.Module) -> list[Tensor]:
    """Every tensor of a model that holds plain floats, buffers too."""
    stored = {id(weight): weight for weight in stored_weights(model)}
    plain = [p for p in model.parameters() if id(p) not in stored]
    dense = [
        tensor
        for weight in stored.values()
        if not weight.store.quantized
        for tensor in weight.store.tensors().values()
    ]
    return [*plain, *model.buffers(), *dense]


def state_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """What an optimizer keeps of the weights that it moves."""
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages of tensors, shared ones once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def kept_as_read(model: nn.Module, quantized: Collection[str]) -> list[int]:
    """Bytes of each tensor that is held as floats while a model is loaded.

    Args:
        model: on the meta device, not quantized yet.
        quantized: paths of the parameters that are quantized as they are read.

    Returns:
        One number for each other parameter, and for each that is joined of several tensors of the
        file twice its own.
    """
    kept = [p.nbytes for name, p in model.named_parameters() if name not in quantized]
    return kept + [2 * model.get_parameter(path).nbytes for path in joined_experts(model)]


def codes_and_scales(stores: Sequence[StoredWeight]) -> tuple[int, int]:
    """Bytes of the codes of quantized weights, and of their scales."""
    scales = bytes_of(tensor for store in stores for tensor in store.scales().values())
    whole = bytes_of(tensor for store in stores for tensor in store.tensors().values())
    return whole - scales, scales
