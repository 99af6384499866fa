"""What differs between kinds of models: the class that makes one, and how it is called."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zolit.models.special_tokens import special_tokens

Kind = Literal["causal", "masked"]
"""Names of the families in ``model.source.kind``."""

REHEARSED = 64
"""Tokens of the trial prompt that shows which weights are read; fewer for a short context."""


class Family(ABC):
    """One kind of language models: a file beside this one, listed in `zolit.models.families`.

    Attributes:
        kind: its name in ``model.source.kind``.
        writes_on: whether a model predicts the next token at each position. Prompts are then padded
            on the left, so that all end at the last position.
    """

    kind: ClassVar[Kind]
    writes_on: ClassVar[bool]

    @abstractmethod
    def auto_class(self) -> Any:
        """The class of transformers that makes a model from a configuration or a checkpoint."""

    @abstractmethod
    def class_names(self) -> dict[str, str]:
        """Names of transformers' model classes of this family, by model type."""

    @abstractmethod
    def logits_at(
        self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor, positions: Tensor
    ) -> Tensor:
        """Vocabulary logits at chosen positions of each row.

        The model's own forward is called where possible, so that steps after the output layer, such
        as Gemma's soft cap, are kept.

        Args:
            model: of this family.
            input_ids: ``[R, T]`` int64.
            attention_mask: ``[R, T]`` int64.
            positions: ``[R, L]`` int64; -1 in unused slots, whose logits mean nothing.

        Returns:
            ``[R, L, V]`` in the model's dtype.
        """

    def rehearse(self, model: nn.Module) -> Tensor:
        """Logits of one short prompt, ``[1, 1, V]``: they depend on the same weights as any others.

        The prompt repeats one word, which is no placeholder of an image or a sound.
        """
        config: Any = model.config
        text = config.get_text_config()
        context = getattr(text, "max_position_embeddings", None) or REHEARSED
        # Half of the context: some model types number positions from the padding index on.
        length = max(1, min(REHEARSED, int(context) // 2))
        marks = special_tokens(config)
        word = next(number for number in range(len(marks) + 1) if number not in marks)
        ids = torch.full((1, length), word)
        return self.logits_at(model, ids, torch.ones_like(ids), torch.tensor([[length - 1]]))


def take_positions(values: Tensor, positions: Tensor) -> Tensor:
    """``values [R, T, N]`` at ``positions [R, L]``: ``[R, L, N]``."""
    rows = torch.arange(len(positions), device=positions.device).unsqueeze(1)
    return values[rows, positions]


def accepted_arguments(model_class: type[nn.Module]) -> frozenset[str]:
    """Names of the arguments of a model's forward."""
    return frozenset(inspect.signature(model_class.forward).parameters)
