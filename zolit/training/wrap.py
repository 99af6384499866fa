"""Makes a module of a model that is in memory already."""

from typing import Any

from torch import nn

from zolit.arguments import checked
from zolit.models.source import ModelSource
from zolit.strategies import Perturber, Quantizer
from zolit.training.zero_order import ZeroOrderModule


@checked(model="give one of transformers, such as AutoModelForCausalLM.from_pretrained(name)")
def wrap(
    model: nn.Module, quantizer: Quantizer, perturber: Perturber, **options: Any
) -> ZeroOrderModule:
    """The module that fine-tunes a model of transformers which is loaded already.

    The model is changed in place: the quantizer stores its weights, and it computes with the stored
    weights from then on.

    Args:
        model: of transformers, in floats, on any device.
        quantizer: how its linear layers are stored.
        perturber: which stored coordinates move.
        options: further arguments of `ZeroOrderModule`, such as ``objective``.

    Raises:
        UserError: if two parts do not combine, or the model cannot be prepared.

    Example:
        >>> from zolit.strategies import Int8, ScalePerturber
        >>> module = wrap(model, Int8(), ScalePerturber(), seed=1)  # doctest: +SKIP
    """
    name = getattr(getattr(model, "config", None), "_name_or_path", "") or type(model).__name__
    module = ZeroOrderModule(ModelSource(name), quantizer, perturber, **options)
    module.adopt(model)
    return module
