"""Finds by a trial whether the logits of a few answers can be made without all the others."""

from typing import Any

import torch
from torch import Tensor, nn

from zolit.models.anatomy import output_layer, word_embeddings
from zolit.models.passes.calls import Stage, wrapped_call
from zolit.models.trials.stand_ins import StandIns, make_blank
from zolit.objectives.padding import Logits

ANSWERS = (3, 1)


def answers_alone(model: nn.Module, logits: Logits) -> bool:
    """Whether the steps of a model behind its output layer treat each logit by itself.

    A soft cap does. A softmax does not, and neither does a bias of the whole vocabulary that is
    added apart from the layer. In the trial the output layer gives the same logits for every hidden
    state: once those of all words, and once those of a few.

    Args:
        model: prepared, on any device; its blocks are not compiled.
        logits: how it will be called.
    """
    words = word_embeddings(model)
    head = output_layer(model)
    if words is None or not isinstance(head, nn.Linear) or head.out_features <= max(ANSWERS):
        return True
    ids = torch.full((1, 4), min(5, len(words) - 1))
    mask, last, answers = torch.ones_like(ids), torch.tensor([[3]]), torch.tensor(ANSWERS)
    said = torch.linspace(-2, 2, head.out_features)

    def call(network: Any, values: Tensor) -> Tensor:
        def say(hidden: Tensor) -> Tensor:
            return values.expand(*hidden.shape[:-1], len(values))

        with wrapped_call(network.get_output_embeddings(), Stage.ANSWERS, lambda inner: say):
            return logits(network, ids, mask, last).float()

    model.eval()
    try:
        copy = make_blank(model)
        every = StandIns(copy).run(call, said)
        few = StandIns(copy).run(call, said[answers])
    # The model's own code may raise anything on a vocabulary of another size.
    except Exception:
        return False
    wanted = every[..., answers]
    return few.shape == wanted.shape and bool(torch.allclose(few, wanted, atol=1e-5))
