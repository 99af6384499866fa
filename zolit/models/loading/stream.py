"""Quantize while loading: each weight is read, stored in its format and freed before the next.

transformers' own loader handles names (renamed keys, base-model prefixes, conversions), buffers and
tied weights. It gets lazy tensors, and a registered quantizer that calls
`zolit.models.prepare.Preparation.store` on each weight. The peak of memory is the stored weights,
one tensor of the checkpoint, and its copy in the model's dtype.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zolit.compat import ConversionOps, HfQuantizer, QuantizationConfigMixin, register_quantizer
from zolit.errors import UserError
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.places import is_ignorable, missing, not_converted, unplaced
from zolit.models.plan import Plan, Planned
from zolit.models.prepare import Preparation

METHOD = "zolit"


class Stream(QuantizationConfigMixin):
    """Stores weights for transformers' loader, which gets it as a quantization configuration.

    Args:
        preparation: formats of the weights.
        plan: of the model that will be loaded.
        skeleton: that model on the meta device.
        tensors: the checkpoint.
        dtype: that the loader casts floats to.
    """

    quant_method = METHOD

    def __init__(
        self,
        preparation: Preparation,
        plan: Plan,
        skeleton: nn.Module,
        tensors: Mapping[str, LazyTensor],
        dtype: torch.dtype,
    ) -> None:
        self.preparation = preparation
        self.failure: Exception | None = None
        parameters = dict(skeleton.named_parameters())
        # The loader casts some weights to another dtype after the operation, and it ties weights
        # when all are read.
        self.planned: dict[str, Planned] = {
            one.path: one
            for one in plan.weights
            if preparation.quantizer.quantized
            and one.quantized
            and not preparation.trains(one)
            and len(one.names) == 1
            and parameters[one.path].dtype == dtype
        }
        self.shapes = {path: parameters[path].shape for path in self.planned}
        self.state_dict = {name: _Guarded(self, tensor) for name, tensor in tensors.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Stream":
        # transformers deep-copies the configuration of a model, which holds this object.
        return self

    def to_dict(self) -> dict[str, Any]:
        """The entries that a printed configuration shows."""
        return {"quant_method": METHOD}

    def store(self, path: str, value: Tensor, sources: list[str]) -> Tensor:
        """The stored weight that replaces a parameter.

        Args:
            path: its name in the model.
            value: the tensor, read and cast.
            sources: names in the checkpoint, for messages.
        """
        one = self.planned.get(path)
        if one is None:
            return value
        if value.shape != self.shapes[path]:
            raise _wrong_shape(path, value.shape, self.shapes[path], self._file(sources))
        store = self.preparation.store(one, value)
        return self.preparation.wrap(one, store, None, value)

    def _file(self, sources: list[str]) -> str:
        files = {
            str(self.state_dict[name].tensor.file) for name in sources if name in self.state_dict
        }
        return ", ".join(sorted(files)) or "the checkpoint"


class _Guarded:
    """A lazy tensor that refuses to be read after an error.

    The loader collects the errors of operations and would go on to the next weight.
    """

    def __init__(self, stream: Stream, tensor: LazyTensor) -> None:
        self.stream, self.tensor = stream, tensor

    def __getitem__(self, index: Any) -> Tensor:
        if self.stream.failure is not None:
            raise self.stream.failure
        return self.tensor[index]


class _Store(ConversionOps):
    """transformers' operation on a weight: calls `Stream.store`."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def convert(
        self, input_dict: dict[str, Any], source_patterns: list[str], **kwargs: Any
    ) -> dict[str, Any]:
        """Turn weights by name into stored weights by name."""
        done: dict[str, Any] = {}
        for path in list(input_dict):
            value = input_dict.pop(path)
            value = value[0] if isinstance(value, list) else value
            try:
                done[path] = self.stream.store(path, value, source_patterns)
            except Exception as error:
                self.stream.failure = error
                raise
        return done


@register_quantizer(METHOD)
class StreamQuantizer(HfQuantizer):
    """The quantizer that transformers finds for a `Stream`."""

    quantization_config: Stream

    def param_needs_quantization(self, model: Any, param_name: str, **kwargs: Any) -> bool:
        """Whether `Stream` stores this parameter."""
        return param_name in self.quantization_config.planned

    def get_quantize_ops(self) -> ConversionOps:
        """The operation that stores a parameter."""
        return _Store(self.quantization_config)

    def postprocess_model(self, model: Any, **kwargs: Any) -> Any:
        """Change nothing: stored weights need no changed modules."""
        self.remove_quantization_config(model)
        return model

    def is_serializable(self) -> bool:
        """False: zolit writes its own checkpoints."""
        return False

    @property
    def is_trainable(self) -> bool:
        """False: stored weights take no gradients."""
        return False


def stream(
    preparation: Preparation,
    plan: Plan,
    skeleton: nn.Module,
    tensors: Mapping[str, LazyTensor],
    dtype: torch.dtype,
    origin: str,
) -> nn.Module:
    """Load a model and quantize its weights one by one; `Preparation.apply` does the rest.

    Args:
        preparation: formats of the weights.
        plan: of the skeleton.
        skeleton: the model on the meta device, its weights tied.
        tensors: the checkpoint.
        dtype: of weights that stay floats.
        origin: name of the checkpoint, for messages.

    Returns:
        The model in eval mode, no parameter requiring a gradient. Quantized weights have no site.

    Raises:
        UserError: if a tensor is missing, damaged or of a wrong shape, or a format cannot hold it.
    """
    config = Stream(preparation, plan, skeleton, tensors, dtype)
    try:
        model, report = type(skeleton).from_pretrained(  # type: ignore[attr-defined]
            None,
            config=skeleton.config,
            state_dict=config.state_dict,
            dtype=dtype,
            quantization_config=config,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except RuntimeError as error:
        raise config.failure or not_converted(origin, error) from error
    check_report(report, model, origin)
    loaded: nn.Module = model.eval().requires_grad_(False)
    return loaded


def check_report(report: Mapping[str, Any], model: nn.Module, origin: str) -> None:
    """Refuse a model for which the loader made random weights or left out tensors.

    Args:
        report: transformers' loading info.
        model: that was loaded.
        origin: name of the checkpoint, for messages.

    Raises:
        UserError: if a tensor was missing, of a wrong shape, or had no place in the model.
    """
    for name, got, expected in sorted(report["mismatched_keys"]):
        raise _wrong_shape(name, got, expected, origin)
    lost = [name for name in sorted(report["unexpected_keys"]) if not is_ignorable(model, name)]
    if lost:
        raise unplaced(model, lost, origin, None)
    if report["missing_keys"]:
        raise missing(sorted(report["missing_keys"]), origin)


def _wrong_shape(name: str, got: Any, expected: Any, origin: str) -> UserError:
    return UserError(
        f"model.source: tensor {name!r} of {origin!r} has shape {list(got)}, the model expects "
        f"{list(expected)}; give the checkpoint with the configuration that belongs to it"
    )
