"""Prepares models that are in memory, as a module does."""

from collections.abc import Callable
from typing import Any

from torch import nn

from zolit.errors import UserError
from zolit.models.adapters.base import Adapter
from zolit.models.parts import ChoosesSupports, NamesCoordinates, StoresWeights
from zolit.models.prepare import Preparation
from zolit.models.trials.probe import Forward
from zolit.tensors.reading import Reading


def no_tokenizer() -> Any:
    """Stands for the tokenizer of a model in memory.

    Raises:
        UserError: always.
    """
    raise UserError(
        "model.source: a model in memory has no tokenizer that a mask could read text with; give "
        "the mask what it would find"
    )


def prepare(
    model: nn.Module,
    quantizer: StoresWeights,
    perturber: NamesCoordinates,
    reading: Reading,
    tune: list[str],
    adapter: Adapter | None = None,
    forward: Forward | None = None,
    mask: ChoosesSupports | None = None,
    load_tokenizer: Callable[[], Any] = no_tokenizer,
) -> bool:
    """Store the model's linear layers in the quantizer's format and give tuned weights a site.

    Every linear layer but the output layer is quantized, tuned or not; other parameters keep
    their floats, and share their storage with the model if they are tuned.

    Args:
        model: a loaded transformers model, changed in place.
        quantizer: storage format.
        perturber: coordinates of the tuned weights.
        reading: state that the weights will share.
        tune: words of `zolit.models.plan.KINDS` or parameter-name patterns (``*`` and ``?``).
        adapter: added to the model first.
        forward: see `Preparation`.
        mask: see `Preparation`.
        load_tokenizer: makes the model's tokenizer, for a mask that runs text.

    Returns:
        Whether every tuned weight can be read in two versions in one pass.

    Raises:
        UserError: if ``tune`` names nothing, the quantizer cannot hold a weight or the adapter
            does not fit the model.
    """
    parts = quantizer, perturber, reading, tune, adapter, forward, mask
    return Preparation(*parts).prepare(model, load_tokenizer)
