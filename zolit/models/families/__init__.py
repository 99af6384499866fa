"""The kinds of models that zolit knows, one file each: how one is made and how it is called."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.families.base import Family, Kind
from zolit.models.families.causal_lm import CausalLM
from zolit.models.families.masked_lm import MaskedLM

__all__ = [
    "FAMILIES",
    "Family",
    "Kind",
    "answer_logits",
    "family_of",
    "find_kind",
    "last_logits",
    "rehearse",
]

FAMILIES: dict[Kind, Family] = {"causal": CausalLM(), "masked": MaskedLM()}


def find_kind(config: Any) -> Kind:
    """Causal or masked, from the architecture named in a transformers configuration.

    Where no architecture is named, the model type decides. Encoders such as BERT and RoBERTa
    are listed by transformers under both kinds; they are masked unless ``is_decoder`` is set.

    Raises:
        UserError: transformers knows the model type under neither kind.
    """
    causal, masked = FAMILIES["causal"].class_names(), FAMILIES["masked"].class_names()
    for name in getattr(config, "architectures", None) or ():
        in_masked, in_causal = name in masked.values(), name in causal.values()
        if in_masked != in_causal:
            return "masked" if in_masked else "causal"
    if config.model_type in masked and not getattr(config, "is_decoder", False):
        return "masked"
    if config.model_type in causal:
        return "causal"
    raise UserError(
        f"model.source.kind: model type {config.model_type!r} is known neither as a causal nor as "
        "a masked language model; set kind to causal or masked."
    )


def family_of(model: nn.Module) -> Family:
    """The family of a model, found by its class and the classes that it inherits from.

    A model whose classes transformers lists as masked language models alone is masked; any other
    counts as causal.
    """
    return _family(tuple(one.__name__ for one in type(model).__mro__))


@lru_cache(maxsize=64)
def _family(classes: tuple[str, ...]) -> Family:
    names = set(classes)
    masked, causal = (set(FAMILIES[kind].class_names().values()) for kind in ("masked", "causal"))
    return FAMILIES["masked" if names & masked and not names & causal else "causal"]


def answer_logits(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
) -> Tensor:
    """`Family.logits_at` of the model's own family."""
    return family_of(model).logits_at(model, input_ids, attention_mask, positions)


def last_logits(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """`answer_logits` at the last position of each row, ``[R, 1, V]``, for trials of a model."""
    last = torch.full_like(input_ids[:, :1], input_ids.shape[1] - 1)
    return answer_logits(model, input_ids, attention_mask, last)


def rehearse(model: nn.Module) -> Tensor:
    """`Family.rehearse` of the model's own family."""
    return family_of(model).rehearse(model)
