"""Perplexity of a general text, against plain log-probabilities of transformers' model."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import VOCAB, prepared, tiny

from zolit import DensePerturber, Int8, NoQuantizer, ScalePerturber
from zolit.evaluations.general_text import text_perplexity

WINDOWS = [2 + torch.arange(count) * 5 % (VOCAB - 2) for count in (12, 12, 7)]


def plainly(model: torch.nn.Module) -> float:
    losses = []
    for window in WINDOWS:
        with torch.no_grad():
            chances = model(input_ids=window[None]).logits[0].double().log_softmax(-1)
        losses.append(-chances[torch.arange(len(window) - 1), window[1:]])
    return float(torch.cat(losses).mean().exp())


def test_of_a_plain_model() -> None:
    model, _, _ = prepared("llama", NoQuantizer(), perturber=DensePerturber())
    assert text_perplexity(model, WINDOWS) == pytest.approx(plainly(tiny("llama")), rel=1e-4)


def test_of_a_quantized_one() -> None:
    model, _, _ = prepared("llama", Int8(), perturber=ScalePerturber())
    assert text_perplexity(model, WINDOWS) == pytest.approx(plainly(model), rel=1e-4)
    assert text_perplexity(model, WINDOWS) != pytest.approx(plainly(tiny("llama")), rel=1e-6)
