"""Pairs where they equal two passes, and nowhere else."""

import logging
import re

import pytest
import torch
from odd_models import ODD, odd, rows
from preparing import prepare
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.families import last_logits
from zolit.models.trials.pairs import refuse_unread, try_pairs
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int8,
    Losses,
    NoQuantizer,
    Quantizer,
    TwoPoint,
)
from zolit.tensors.reading import Reading

OFF = {
    "deberta": r"query_proj.weight reads \[1, 32, 32\]",
    "falcon": "read by __get__",
    "falcon_alibi": "read by __get__",
    "longformer": r"query.weight reads \[12, 6, 32\]",
    "mamba": "dt_proj.weight is read by matmul",
    "xlnet": r"ff.layer_1.weight reads \[11, 6, 32\]",
}


def prepared(
    name: str, quantizer: Quantizer, tune: str = "linear"
) -> tuple[nn.Module, Reading, bool]:
    model = odd(name)
    perturber = CodePerturber() if quantizer.quantized else DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    return model, reading, prepare(model, quantizer, perturber, reading, [tune])


@torch.no_grad()
def difference(model: nn.Module, reading: Reading, name: str, eps: float, pairs: bool) -> Tensor:
    losses = Losses(OptionScoring(), model, rows(name))
    return TwoPoint().estimate(losses, reading, [5, 6], eps, pairs).values


@pytest.mark.parametrize("quantizer", ["none", "int8"])
@pytest.mark.parametrize("name", ODD)
def test_an_estimate_is_that_of_two_passes(
    name: str, quantizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    chosen, eps = (Int8(), 1.4) if quantizer == "int8" else (NoQuantizer(), 0.01)
    model, reading, planned = prepared(name, chosen)
    with caplog.at_level(logging.WARNING):
        trial = try_pairs(model, last_logits, planned, tell=True)
    assert trial.pairable == (name not in OFF)
    if name in OFF:
        assert "two passes" in caplog.text
        caplog.clear()
    found = difference(model, reading, name, eps, trial.pairable)
    wanted = difference(model, reading, name, eps, False)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=2e-7 / eps)
    assert wanted.abs().min() > 2e-6 / eps


@pytest.mark.parametrize("name", OFF)
def test_the_line_names_the_layer(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model, _, planned = prepared(name, NoQuantizer())
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        try_pairs(model, last_logits, planned, tell=False)
        assert not caplog.records
        try_pairs(model, last_logits, planned, tell=True)
    (line,) = caplog.records
    assert re.search(OFF[name], line.getMessage())


@pytest.mark.parametrize("name", ["deberta", "longformer", "xlnet"])
def test_a_pair_would_be_wrong_where_it_is_off(name: str) -> None:
    model, reading, planned = prepared(name, NoQuantizer())
    assert planned
    wrong, right = (difference(model, reading, name, 0.01, pairs) for pairs in (True, False))
    assert ((wrong - right) / right).abs().max() > 2e-3


@pytest.mark.parametrize("name", ["bloom", "deberta", "mixtral"])
def test_the_answer_does_not_hang_on_numbers(name: str) -> None:
    """A model on the meta device, whose memory is estimated, and one of nothing but zeros."""
    answers = []
    for change in (
        lambda _: None,
        lambda m: m.to("meta"),
        lambda m: [p.zero_() for p in m.parameters()],
    ):
        model, perturber = odd(name), DensePerturber()
        change(model)
        planned = prepare(
            model, NoQuantizer(), perturber, Reading(perturber.direction()), ["linear"]
        )
        answers.append(try_pairs(model, last_logits, planned, tell=False))
    assert answers[0] == answers[1] == answers[2]


def test_a_trial_leaves_model_and_generator_as_they_were() -> None:
    model, _, planned = prepared("bloom", NoQuantizer())
    before = {
        name: (id(p), p.dense().clone() if hasattr(p, "dense") else p.clone())
        for name, p in model.named_parameters()
    }
    state = torch.random.get_rng_state()
    try_pairs(model, last_logits, planned, tell=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, p in model.named_parameters():
        assert id(p) == before[name][0]
        assert torch.equal(p.dense() if hasattr(p, "dense") else p, before[name][1])


def test_a_weight_that_the_trial_did_not_come_by() -> None:
    model, reading, planned = prepared("bart", NoQuantizer())
    trial = try_pairs(model, last_logits, planned, tell=False)
    assert trial.pairable
    assert len(trial.unread) == 8
    assert all("encoder_attn" in path for path in trial.unread)
    refuse_unread(model, reading, trial.unread)
    one = rows("bart")
    inputs = {"input_ids": one.input_ids, "encoder_hidden_states": torch.zeros(4, 3, 32)}
    with torch.no_grad():
        model(**inputs)
        with (
            reading.perturbed(1, 0.1, 2),
            pytest.raises(UserError, match=r"encoder_attn\.q_proj\.weight is read by this batch"),
        ):
            model(**inputs)


def test_a_model_that_reads_no_tokens_is_taken_as_planned() -> None:
    model, perturber = nn.Sequential(nn.Linear(4, 4)), DensePerturber()
    planned = prepare(model, NoQuantizer(), perturber, Reading(perturber.direction()), ["linear"])
    assert try_pairs(model, last_logits, planned, tell=False).pairable
