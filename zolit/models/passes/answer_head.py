"""Logits of a few answers: only their rows of the output layer are multiplied, in float32."""

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
    """Inside this context the model's logits are those of ``answers`` alone, if possible.

    A product in bfloat16 rounds logits of 8 and more to multiples of a sixteenth. On SST-2 two
    answers then tie in a fiftieth of the rows, and the small differences that a step measures are
    lost. A product with the whole output layer also decodes all rows of the vocabulary where a few
    are needed. Later steps of the model, such as a soft cap, act on these logits as on any others.

    The output layer must be a plain linear layer that does not move. If it is tuned, has an adapter
    or multiplies integers, it makes the logits of the whole vocabulary.

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
