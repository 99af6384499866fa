"""What an adapter is, and how it is added to a model without a change of the model's weights."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from zolit.arguments import Checked
from zolit.compat import Conv1D
from zolit.errors import UserError
from zolit.models.anatomy import output_layer
from zolit.noise import fold, split_key, uniform
from zolit.tensors.weight import PerturbedWeight

NAME = "adapter"
"""Attribute of a layer that holds its adapter; also the word of `tune` for all factors."""


class Factor(nn.Linear):
    """A weight of an adapter: never quantized, moved if ``adapter`` is in `tune`.

    It is a linear layer, so that one pass can read both of its versions as of any linear layer. The
    adapter sets its values.

    Example:
        >>> factor = Factor(8, 2, torch.float32, "cpu")
        >>> factor.weight.shape, factor.bias is None
        (torch.Size([2, 8]), True)
    """

    def __init__(
        self, columns: int, rows: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        super().__init__(columns, rows, bias=False, dtype=dtype, device=device)
        self.requires_grad_(False)

    def reset_parameters(self) -> None:
        """Do nothing: torch would draw from the global generator here."""


class LayerAdapter(nn.Module, ABC):
    """The adapter of one linear layer.

    Attributes:
        hook: calls it after its layer; None if the layer calls it itself.

    Example:
        >>> class Shifted(LayerAdapter):
        ...     def forward(self, x, out):
        ...         return out + 1
        >>> Shifted()(torch.zeros(1, 4), torch.zeros(1, 2))
        tensor([[1., 1.]])
    """

    hook: RemovableHandle | None = None

    @abstractmethod
    def forward(self, x: Tensor, out: Tensor) -> Tensor:
        """The output of the layer together with its adapter.

        Args:
            x: ``[..., columns]``, input of the layer.
            out: ``[..., rows]``, output of the layer alone.

        Returns:
            ``[..., rows]`` in the dtype of ``out``.
        """

    def delta(self) -> Tensor:
        """``[rows, columns]`` float32: added to the layer's weight, it has the effect of the
        adapter.

        Raises:
            UserError: if there is no such matrix.
        """
        raise UserError(
            f"adapter: {type(self).__name__} cannot be merged into a weight, so no format "
            "holds the model; use the run's checkpoint with zolit test or zolit predict"
        )


class Adapter(Checked, ABC):
    """Adds small float factors to a model, beside layers whose weights stay as they are stored.

    Args:
        targets: linear layers, by the end of their path as in PEFT (``q_proj``), by their whole
            path, or by a pattern for it (``*`` and ``?``). The output layer gets no adapter.

    Raises:
        UserError: if there are no targets.

    Example:
        >>> class Scaled(LayerAdapter):
        ...     def __init__(self, rows, like):
        ...         super().__init__()
        ...         self.factor = Factor(1, rows, torch.float32, like.device)
        ...     def forward(self, x, out):
        ...         return out * (1 + self.factor(out.new_ones(1)))
        >>> class Scales(Adapter):
        ...     def beside(self, path, rows, columns, like):
        ...         return Scaled(rows, like)
        >>> Scales(["q_proj"]).targets
        ['q_proj']
    """

    def __init__(self, targets: list[str]) -> None:
        if not targets:
            raise UserError(
                "adapter.targets: got an empty list, expected names of linear layers; try "
                "[q_proj, v_proj]"
            )
        self.targets = targets

    @abstractmethod
    def beside(self, path: str, rows: int, columns: int, like: Tensor) -> LayerAdapter:
        """The adapter of one layer.

        Args:
            path: of the layer.
            rows: its outputs.
            columns: its inputs.
            like: its weight, for dtype and device; on the meta device no values are needed.
        """

    def attach(self, model: nn.Module) -> None:
        """Add the factors to a model, on the meta device or loaded, in place.

        Raises:
            UserError: if a target names no linear layer, or the model has an adapter already.
        """
        if hasattr(model, "peft_config") or any(True for _ in adapted(model)):
            raise UserError(
                f"adapter: {type(model).__name__} has an adapter already; start from the model "
                "without one"
            )
        for path, layer in self.layers(model).items():
            weight = layer.weight
            rows, columns = weight.shape
            if isinstance(layer, Conv1D):
                rows, columns = columns, rows
            _join(layer, self.beside(path, rows, columns, weight))

    def layers(self, model: nn.Module) -> dict[str, Any]:
        """The layers that the targets name, by path.

        Raises:
            UserError: if a target names none.
        """
        output = output_layer(model)
        linear = {
            path: layer
            for path, layer in model.named_modules()
            if isinstance(layer, nn.Linear | Conv1D)
            and not isinstance(layer, Factor)
            and layer is not output
        }
        for target in self.targets:
            if not any(_names(target, path) for path in linear):
                there = sorted({path.rpartition(".")[2] for path in linear})
                raise UserError(
                    f"adapter.targets: {target!r} names no linear layer of the model; it has "
                    f"{', '.join(there)}"
                )
        return {
            path: layer
            for path, layer in linear.items()
            if any(_names(target, path) for target in self.targets)
        }


def keyed_uniform(seed: int, name: str, rows: int, columns: int) -> Tensor:
    """``[rows, columns]`` float32 uniform in [-1, 1), by the counter generator.

    Args:
        seed: of the adapter.
        name: of the factor; each has a stream of its own.
        rows: first dimension.
        columns: second dimension.
    """
    stream = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    high, low = (torch.tensor(word) for word in split_key(fold(seed, stream)))
    counter = torch.arange(rows * columns, dtype=torch.int32)
    return (2 * uniform(counter, high, low) - 1).view(rows, columns)


def _names(target: str, path: str) -> bool:
    return path == target or path.endswith(f".{target}") or fnmatchcase(path, target)


def adapted(model: nn.Module) -> Iterator[tuple[str, Any, LayerAdapter]]:
    """Path, layer and adapter of each layer that has one."""
    for path, layer in model.named_modules():
        adapter = layer._modules.get(NAME)
        if isinstance(adapter, LayerAdapter):
            yield path, layer, adapter


def floats(weight: Tensor) -> Tensor:
    """A weight as plain floats, stored by zolit or not."""
    return weight.dense() if isinstance(weight, PerturbedWeight) else weight.detach()


def take_adapter(layer: nn.Module) -> LayerAdapter | None:
    """Remove a layer's adapter and return it, for a layer that calls it itself; None without."""
    adapter = layer._modules.get(NAME)
    if not isinstance(adapter, LayerAdapter):
        return None
    _part(layer, adapter)
    return adapter


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Add every adapter to the weight of its layer, which becomes plain floats, in place.

    Raises:
        UserError: if an adapter cannot be merged.
    """
    for _, layer, adapter in list(adapted(model)):
        grown = adapter.delta()
        if isinstance(layer, Conv1D):
            grown = grown.t()
        old = layer.weight
        weight = floats(old).float() + grown
        layer.weight = nn.Parameter(weight.to(old.dtype), requires_grad=False)
        _part(layer, adapter)


def _join(layer: nn.Module, adapter: LayerAdapter) -> None:
    layer.add_module(NAME, adapter)
    # A hook, as it keeps the layer's class and the names of its parameters: plans, checkpoints and
    # exports depend on them.
    adapter.hook = layer.register_forward_hook(_adapted)


def _part(layer: nn.Module, adapter: LayerAdapter) -> None:
    if adapter.hook is not None:
        adapter.hook.remove()
        adapter.hook = None
    layer._modules[NAME] = None


def _adapted(layer: Any, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor:
    adapted_out: Tensor = layer.adapter(inputs[0], out)
    return adapted_out
