"""Mixture-of-experts layers of transformers: found, and computed from stored weights.

Since version 5 transformers keeps the experts of a layer as one 3-D parameter for each product. A
function from a registry multiplies by them. zolit registers a function of its own, and chooses it
in the configuration of each model whose experts it stores.
"""

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from zolit.compat import WeightConverter, get_model_conversion_mapping, register_experts
from zolit.errors import UserError
from zolit.tensors.experts import expert_linear, sort_choices
from zolit.tensors.weight import PerturbedWeight

IMPLEMENTATION = "zolit"
"""Name of zolit's function in transformers' registry."""

WEIGHTS = ("gate_up_proj", "up_proj", "down_proj")
"""Parameters of an experts module that are stacks of matrices."""

BIASES = tuple(f"{name}_bias" for name in WEIGHTS)
"""Parameters of an experts module that are a bias for each expert."""

_layers: "WeakValueDictionary[int, StoredExperts]" = WeakValueDictionary()
_numbers = itertools.count()

_MARKS = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "is_concatenated")


def is_experts(module: nn.Module) -> bool:
    """Whether a module holds experts that transformers' registry multiplies.

    Every module with transformers' decorator `use_experts_implementation` has these attributes.
    """
    return all(hasattr(module, name) for name in _MARKS)


def expert_paths(model: nn.Module) -> set[str]:
    """Names of the parameters of a model that are stacks of experts' matrices."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules()
        if is_experts(module)
        for name in WEIGHTS
        if name in module._parameters
    }


def joined_experts(model: nn.Module) -> set[str]:
    """Those of `expert_paths` for which checkpoints hold one tensor for each expert.

    transformers' loader joins these tensors, which takes their memory a second time.

    Args:
        model: of transformers, on any device.
    """
    paths = expert_paths(model)
    found: Any = get_model_conversion_mapping(model) if paths else []
    joins = [one for one in found if isinstance(one, WeightConverter)]
    return {
        path
        for path in paths
        if any(re.search(name, path) for one in joins for name in one.target_patterns)
    }


def is_stored_experts(module: nn.Module) -> bool:
    """Whether zolit stores some of a module's experts."""
    return is_experts(module) and any(isinstance(p, PerturbedWeight) for p in _own(module))


def choose_stored_experts(model: nn.Module) -> None:
    """Choose `multiply_experts` for a model, if zolit stores some of its experts.

    Args:
        model: prepared. The field of its configuration that is changed is never saved.
    """
    for module in model.modules():
        if is_stored_experts(module):
            register_experts(IMPLEMENTATION, multiply_experts)
            config: Any = module.config
            config._experts_implementation = IMPLEMENTATION


@contextmanager
def eager_experts(module: nn.Module) -> Iterator[None]:
    """Inside, experts are multiplied by the plain code of their own class, which has gradients.

    Args:
        module: whose experts have plain weights; their configuration is changed meanwhile.
    """
    configs: list[Any] = [one.config for one in module.modules() if is_experts(one)]
    before = [config._experts_implementation for config in configs]
    try:
        for config in configs:
            config._experts_implementation = "eager"
        yield
    finally:
        for config, one in zip(configs, before, strict=True):
            config._experts_implementation = one


def multiply_experts(
    module: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor
) -> Tensor:
    """The output of a layer's experts for its tokens, from stored or plain weights.

    The experts of a token are summed in the order of transformers' ``grouped_mm``. In a pair the
    first half of the tokens meets the weights at +, the second half at -. The arguments have
    transformers' names.

    Args:
        module: an experts module of transformers.
        hidden_states: ``[T, columns]`` float.
        top_k_index: ``[T, k]`` int64, the experts of each token.
        top_k_weights: ``[T, k]`` float, the factor of each.

    Returns:
        ``[T, columns]`` in the dtype of ``hidden_states``.

    Raises:
        UserError: if a pair's tokens cannot be halved.
    """
    tokens, each = top_k_index.shape
    halves = max(
        (p.reading.copies(p.site) for p in _own(module) if isinstance(p, PerturbedWeight)),
        default=1,
    )
    if tokens % halves:
        raise UserError(
            f"a paired read needs an even number of tokens, but {type(module).__name__} got "
            f"{tokens}; set the estimator's `paired: false`"
        )
    choices = sort_choices(top_k_index.flatten(), module.num_experts, halves)
    x = hidden_states[choices.order // each]
    for name in ("gate_up_proj" if module.has_gate else "up_proj", "down_proj"):
        bias = getattr(module, f"{name}_bias") if module.has_bias else None
        x = expert_linear(x, getattr(module, name), bias, choices, module.is_transposed)
        if name != "down_proj":
            x = module._apply_gate(x) if module.has_gate else module.act_fn(x)
    if module.has_post_expert_norm:
        x = module.post_expert_norm(x)
    x = x * top_k_weights.flatten()[choices.order].unsqueeze(1)
    for span in choices.left:
        x[span] = 0
    out = torch.empty_like(x)
    out[choices.order] = x
    return out.view(tokens, each, -1).sum(dim=1).to(hidden_states.dtype)


class StoredExperts(nn.Module):
    """Experts around stored weights, opaque to torch.compile.

    Takes the place of an experts module inside compiled blocks, and shares its parameters.

    Args:
        experts: the module.
    """

    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        # In a list, so that it is no submodule: names of parameters would contain its name.
        self.__dict__["experts"] = experts
        self._parameters, self._modules = experts._parameters, experts._modules
        number = next(_numbers)
        # A tensor: an integer would become a constant, and each layer would be compiled anew.
        self.number = torch.tensor(number)
        _layers[number] = self

    def __deepcopy__(self, memo: dict[int, Any]) -> "StoredExperts":
        return StoredExperts(deepcopy(self.__dict__["experts"], memo))

    def forward(self, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
        """See `multiply_experts`."""
        made: Tensor = torch.ops.zolit.stored_experts(
            hidden_states, top_k_index, top_k_weights, self.number
        )
        return made


def _own(module: nn.Module) -> list[nn.Parameter]:
    return list(module.parameters(recurse=False))


_library = torch.library.Library("zolit", "FRAGMENT")
_library.define(
    "stored_experts(Tensor hidden, Tensor index, Tensor factors, Tensor number) -> Tensor"
)


@torch.library.impl(_library, "stored_experts", "CompositeExplicitAutograd")
def _stored_experts(hidden: Tensor, index: Tensor, factors: Tensor, number: Tensor) -> Tensor:
    return multiply_experts(_layers[int(number)].experts, hidden, index, factors)


@torch.library.register_fake("zolit::stored_experts", lib=_library)
def _(hidden: Tensor, index: Tensor, factors: Tensor, number: Tensor) -> Tensor:
    return torch.empty_like(hidden)
