"""A direction for each example: each beside a read of its own; the step of GRZO; refusals."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_experts import tiny as tiny_experts
from tiny_models import batch, tiny

from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.source import ModelSource
from zolit.noise import EXAMPLES, fold
from zolit.objectives.language_modeling import LanguageModeling
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD
from zolit.runs.find_lr import check_finds
from zolit.strategies import (
    CodePerturber,
    Int4,
    Int8,
    LowRankPerturber,
    NoQuantizer,
    PerExample,
    Perturber,
    Quantizer,
    RandomBlocks,
    RandomMask,
    ScalePerturber,
)
from zolit.training.zero_order import ZeroOrderModule

EPS = 2e-2


def module(name: str = "llama", quantizer: Quantizer | None = None, **options: Any) -> Any:
    parts: dict[str, Any] = {"perturber": ScalePerturber(eps=EPS), "estimator": PerExample()}
    one = ZeroOrderModule(
        ModelSource("none"),
        quantizer or Int8(),
        **{**parts, "dtype": "float32", "kernels": "reference", **options},
    )
    one.adopt(tiny(name) if name != "mixtral" else tiny_experts("mixtral"))
    one.network.eval()  # as in a step: these models have dropout
    return one


def of_two_tokens(answers: int = 3) -> PromptBatch:
    """Rows of two examples, each followed by each of three answers of up to two tokens."""
    ids = 2 + torch.arange(2 * answers * 8).view(-1, 8) * 7 % 90
    ends = torch.tensor([[5, 6]]).expand(len(ids), 2).clone()
    ends[::answers, 1] = -1
    tokens = torch.tensor([[7, -1], [9, 11], [12, 13]])
    return PromptBatch(ids, torch.ones_like(ids), ends, tokens, torch.tensor([2, 0]), answers)


def one_by_one(one: Any, rows: PromptBatch, key: int) -> Tensor:
    """Each example's slope, from reads of the whole batch along its direction."""
    found = []
    for place in range(len(rows)):
        ends = []
        for sign in (1.0, -1.0):
            with one.reading.perturbed(fold(key, EXAMPLES, place), sign * EPS, copies=1):
                scores = one.objective.scores(one.network, rows).float()
            ends.append(F.cross_entropy(scores, rows.labels, reduction="none")[place])
        found.append((ends[0] - ends[1]) / (2 * EPS))
    return torch.stack(found)


@torch.no_grad()
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(
    ("name", "quantizer"),
    [
        ("llama", Int8()),
        ("llama", Int8(activations="int8")),
        ("gpt2", Int4(32)),
        ("opt", Int8()),
        ("roberta", Int8()),
    ],
    ids=["int8", "W8A8", "int4", "OPT", "RoBERTa"],
)
def test_each_example_is_read_along_its_own_direction(
    name: str, quantizer: Quantizer, paired: bool
) -> None:
    one = module(name, quantizer, mask=RandomMask(0.5), estimator=PerExample(paired=paired))
    rows, keys = batch(name), [fold(3, 1), fold(3, 2)]
    found = one.estimate(rows, keys)
    wanted = torch.cat([one_by_one(one, rows, key) for key in keys])
    torch.testing.assert_close(found.values, wanted, rtol=2e-3, atol=2e-4)
    assert len(set(found.keys)) == 2 * len(rows) == len(found.values)
    assert one.estimator.joined_keys([found, found], keys) == found.keys * 2
    assert torch.equal(one.estimator.combine([found, found]), found.values.repeat(2))


@torch.no_grad()
def test_the_rows_of_an_example_share_its_direction() -> None:
    """Answers of several tokens: an example has a row for each."""
    one, rows = module(), of_two_tokens()
    found = one.estimate(rows, [fold(4, 1)])
    torch.testing.assert_close(
        found.values, one_by_one(one, rows, fold(4, 1)), rtol=2e-3, atol=2e-4
    )


def test_normalized_steps_are_those_of_grzo() -> None:
    """a_i = delta_i / s with s the deviation over the batch; the step is their mean times z_i."""
    delta = np.random.default_rng(0).normal(0.3, 2.0, 8)
    advantages = delta / np.sqrt(((delta - delta.mean()) ** 2).mean())
    found = PerExample().finish(torch.tensor(delta / (2 * EPS)).float())
    np.testing.assert_allclose(found.numpy(), advantages, rtol=1e-5)
    factors = ZOSGD([torch.zeros(1)], 0.1).direction_factors(found)
    np.testing.assert_allclose(factors.numpy(), advantages / 8, rtol=1e-5)
    plain = torch.tensor([0.5, -2.0])
    assert torch.equal(PerExample(normalized=False).finish(plain), plain)
    assert PerExample().finish(torch.tensor([3.0, 3.0])).tolist() == [0.0, 0.0]


def test_a_step_costs_the_passes_of_one_direction() -> None:
    one, calls = module(), []
    handle = one.network.register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        one.estimate(batch("llama"), [5])
    handle.remove()
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("perturber", "said"),
    [
        (CodePerturber(), "got perturber CodePerturber; use ScalePerturber with granularity: row"),
        (LowRankPerturber(), "got perturber LowRankPerturber; use ScalePerturber"),
        (ScalePerturber(granularity="group"), "got perturber ScalePerturber; use ScalePerturber w"),
    ],
    ids=["codes", "low rank", "scales of groups"],
)
def test_other_coordinates_are_refused(perturber: Perturber, said: str) -> None:
    with pytest.raises(UserError, match=said):
        module(perturber=perturber)


def test_refusals() -> None:
    with pytest.raises(UserError, match="PerExample needs an objective with what OptionScoring"):
        module(objective=LanguageModeling())
    with pytest.raises(UserError, match="got perturber ScalePerturber on an adapter"):
        module(adapter=LoRA(rank=2), quantizer=NoQuantizer())
    with pytest.raises(UserError, match=r"direction of its own, but .* holds experts, which see"):
        module("mixtral")
    with pytest.raises(UserError, match=r"norm\.weight moves by other coordinates than factors of"):
        module(tune=["linear", "norms"])
    rows = batch("llama")
    with torch.no_grad():
        with pytest.raises(UserError, match="whose directions leave out some weights, PerExample"):
            module(mask=RandomBlocks()).estimate(rows, [5])
        one = module()
        one.objective.together = "equal"
        with pytest.raises(UserError, match="runs rows of one length together"):
            one.estimate(rows, [5])
    with pytest.raises(UserError, match="find_lr: it goes by slopes of the mean loss, got estima"):
        check_finds(module())
    open_rate = module(optimizer=lambda params: ZOSGD(params))
    with pytest.raises(UserError, match="ZOSGD needs an lr, got none: estimator PerExample"):
        open_rate.configure_optimizers()
    module(estimator=PerExample(normalized=False)).configure_optimizers()
