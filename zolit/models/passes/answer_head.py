"""The output layer for a few answers: their rows alone, in float32."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zolit.models.anatomy import output_layer
from zolit.models.passes.calls import Stage, wrapped_call
from zolit.tensors.weight import PerturbedWeight


@contextmanager
def only_answers(model: nn.Module, answers: Tensor) -> Iterator[bool]:
    """Inside, the model's logits are those of ``answers``, if its output layer lets them be.

    A product in bfloat16 rounds logits of 8 and more to numbers a sixteenth apart: on SST-2 two
    answers tie in a fiftieth of the rows, and a step reads its differences through that grid. And
    all of the vocabulary's rows are decoded where a handful is wanted. What the model does to its
    logits afterwards it does to these.

    The output layer has to be a plain linear layer that rests as it is stored: one that is tuned,
    has an adapter or multiplies integers answers for the whole vocabulary.

    Args:
        model: a transformers language model.
        answers: ``[C]`` int64 token ids.

    Yields:
        Whether logits are ``[..., C]`` float32 in the order of ``answers``, not ``[..., V]``.
    """
    head: Any = output_layer(model)
    if not _plain(head):
        yield False
        return

    def call(hidden: Tensor) -> Tensor:
        bias = None if head.bias is None else head.bias[answers].float()
        return F.linear(hidden.float(), F.embedding(answers, head.weight).float(), bias)

    with wrapped_call(head, Stage.ANSWERS, lambda inner: call):
        yield True


def _plain(head: Any) -> bool:
    if type(head) is not nn.Linear or head._forward_hooks or head._forward_pre_hooks:
        return False
    weight = head.weight
    if not isinstance(weight, PerturbedWeight):
        return True
    return weight.site is None and not weight.store.integer_products
