"""Which blocks may run once: what real models hand to them, and models made to mislead."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from odd_models import ODD, odd, rows
from preparing import prepare
from torch import Tensor, nn

from zolit.models.anatomy import block_lists
from zolit.models.families import last_logits
from zolit.models.passes.prefix import share_prefix
from zolit.models.passes.prefix_trial import try_prefix
from zolit.models.plan import find_parameters
from zolit.models.trials.pairs import try_pairs
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int8,
    Losses,
    NoQuantizer,
    OneSided,
    Quantizer,
    TwoPoint,
)
from zolit.tensors.reading import Reading

SEVERAL = ("xlm",)  # lists of blocks beside each other
TIMES_FIRST = ("xlnet",)
SIZES = [(4, 8), (1, 9), (3, 6)]  # the first is as long, once doubled, as its rows are


def upper(model: nn.Module) -> list[str]:
    """Linear layers of the last block."""
    inside = {id(p) for p in block_lists(model)[0][-1].parameters()}
    found = find_parameters(model)
    return [one.path for one in found if one.kind == "linear" and id(one.parameter) in inside]


@torch.no_grad()
@pytest.mark.parametrize("quantizer", ["none", "int8"])
@pytest.mark.parametrize("name", ODD)
def test_steps_are_the_same_with_and_without(name: str, quantizer: str) -> None:
    chosen: Quantizer = Int8() if quantizer == "int8" else NoQuantizer()
    perturber = CodePerturber() if chosen.quantized else DensePerturber()
    eps = 1.4 if chosen.quantized else 0.01
    model, reading = odd(name), Reading(perturber.direction(), "reference")
    planned = prepare(model, chosen, perturber, reading, upper(model))
    pairs = try_pairs(model, last_logits, planned, tell=False).pairable
    batches = [rows(name, *size) for size in SIZES]

    def values() -> Tensor:
        found = []
        for one in batches:
            losses = Losses(OptionScoring(), model, one)
            for estimator in (TwoPoint(), OneSided()):
                with reading.same_batch():
                    found.append(estimator.estimate(losses, reading, [5, 6], eps, pairs).values)
        return torch.cat(found)

    wanted = values()
    forms = try_prefix(model, reading, last_logits)
    assert len(forms) == (name not in SEVERAL + TIMES_FIRST)
    share_prefix(model, reading, forms)
    seen: list[int] = []
    if forms:
        first = block_lists(model)[0][0]
        first.register_forward_hook(lambda _, __, out: seen.append(1))
    torch.testing.assert_close(values(), wanted, rtol=1e-2, atol=1e-6 / eps)
    assert wanted.abs().max() > 1e-5 / eps
    # The block below runs once for the passes of a batch: two estimates each.
    assert len(seen) == 2 * len(SIZES) * len(forms)


def test_bloom_runs_on_half_of_a_pair() -> None:
    model, perturber = odd("bloom"), DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    prepare(model, NoQuantizer(), perturber, reading, ["transformer.h.1.*dense*.weight"])
    forms = try_prefix(model, reading, last_logits)
    share_prefix(model, reading, forms)
    seen: list[int] = []
    for block in block_lists(model)[0]:
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    with torch.no_grad(), reading.perturbed(5, 0.01, 2):
        OptionScoring().losses(model, rows("bloom"), 2)
    assert seen == [4, 8]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, hidden: Tensor, bias: Tensor, extra: Tensor | None = None) -> Any:
        out = hidden + self.linear(hidden).tanh() * (1 + self.scale(hidden, bias))
        return out if extra is None else out * extra

    def scale(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return bias.unsqueeze(-1)


class HeadsInside(Block):
    """A bias of ``[rows * 2, tokens]``."""

    def scale(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return bias.view(len(hidden), 2, -1, 1).sum(1)


class HeadsOutside(Block):
    """A bias of ``[2 * rows, tokens]``, head by head."""

    def scale(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return bias.view(2, len(hidden), -1, 1)[1]


class Toy(nn.Module):
    """A model whose last block is tuned."""

    def __init__(self, block: type[Block] = Block) -> None:
        super().__init__()
        self.words = nn.Embedding(64, 8)
        self.layers = nn.ModuleList(block() for _ in range(3))
        self.config = None

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def bias(self, ids: Tensor, mask: Tensor) -> Tensor:
        return 0.1 * ids * mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, bias = self.words(ids), self.bias(ids, mask)
        for layer in self.layers:
            hidden = layer(hidden, bias)
        return hidden


class Heads(Toy):
    def __init__(self) -> None:
        super().__init__(HeadsInside)

    def bias(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (
            super().bias(ids, mask).unsqueeze(1) * torch.tensor([1.0, 2]).view(1, 2, 1)
        ).flatten(0, 1)


class HeadByHead(Toy):
    def __init__(self) -> None:
        super().__init__(HeadsOutside)

    def bias(self, ids: Tensor, mask: Tensor) -> Tensor:
        return (super().bias(ids, mask) * torch.tensor([1.0, 2]).view(2, 1, 1)).flatten(0, 1)


class TableInside(Block):
    def scale(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return 0.1 * bias.sum()


class Table(Toy):
    """Ones ``[8, 1]``: as long as a batch that is there twice, with equal halves."""

    def __init__(self) -> None:
        super().__init__(TableInside)

    def bias(self, ids: Tensor, mask: Tensor) -> Tensor:
        return torch.ones(8, 1)


class Keywords(Toy):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, bias = self.words(ids), self.bias(ids, mask)
        for layer in self.layers:
            hidden = layer(bias=bias, hidden=hidden)
        return hidden


class Late(Toy):
    """Rows of more than 11 tokens bring a tensor that no trial has shown, to a block."""

    place = 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, bias = self.words(ids), self.bias(ids, mask)
        extra = 1 + mask.unsqueeze(-1) if ids.shape[1] > 11 else None
        for place, layer in enumerate(self.layers):
            hidden = layer(hidden, bias, extra if place == self.place else None)
        return hidden


class LateInside(Late):
    place = 1


class Skips(Toy):
    """The first block's result comes back behind the last."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        bias = self.bias(ids, mask)
        first = self.layers[0](self.words(ids), bias)
        return self.layers[2](self.layers[1](first, bias), bias) + first


class Twice(Toy):
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, bias = self.words(ids), self.bias(ids, mask)
        for place in (0, 1, 0, 1, 2):
            hidden = self.layers[place](hidden, bias)
        return hidden


class InPlace(Toy):
    """What a block gives is changed by the model."""

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden, bias = self.words(ids), self.bias(ids, mask)
        for layer in self.layers:
            hidden = layer(hidden, bias)
            hidden *= 0.9
        return hidden


class Between(Toy):
    """A tuned layer between the blocks would read one half."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Linear(8, 8)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        bias = self.bias(ids, mask)
        hidden = self.layers[0](self.words(ids), bias)
        hidden = self.layers[1](self.beside(hidden), bias)
        return self.layers[2](hidden, bias)


SHARED = {Toy: 2, Heads: 2, HeadByHead: 0, Table: 2, Keywords: 2, Late: 2, LateInside: 2}
SHARED |= {Skips: 0, Twice: 0, InPlace: 0, Between: 0}


@torch.no_grad()
@pytest.mark.parametrize("kind", SHARED)
def test_models_made_to_mislead(kind: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, perturber = kind().eval(), DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    tune = ["layers.2.linear.weight"] + (["beside.weight"] if kind is Between else [])
    assert prepare(model, NoQuantizer(), perturber, reading, tune)

    def passes() -> list[Tensor]:
        found = []
        for count, tokens in ((4, 8), (1, 9), (3, 13)):
            ids = (3 + torch.arange(count * tokens) * 7 % 60).view(count, tokens)
            mask = (torch.arange(tokens) >= torch.arange(count).unsqueeze(1)).long()
            with reading.same_batch():
                for key in (1, 2):
                    with reading.perturbed(key, 0.1, 2):
                        found.append(model(ids.repeat(2, 1), mask.repeat(2, 1)))
        return found

    wanted = passes()
    forms = try_prefix(model, reading, lambda model, ids, mask: model(ids, mask))
    assert len(forms) == SHARED[kind]
    share_prefix(model, reading, forms)
    for got, one in zip(passes(), wanted, strict=True):
        torch.testing.assert_close(got, one, rtol=1e-5, atol=1e-5)


class Counting(Toy):
    """A model that changes itself as it runs, as RWKV does with its weights."""

    calls = 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(ids, mask)


def test_what_a_forward_changes_of_its_model_stays_in_the_copy() -> None:
    model, perturber = Counting().eval(), DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    planned = prepare(model, NoQuantizer(), perturber, reading, ["layers.2.linear.weight"])

    def forward(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = model(ids, mask)
        return out

    assert try_pairs(model, forward, planned, tell=False).pairable
    assert len(try_prefix(model, reading, forward)) == 2
    assert model.calls == 0
