"""The estimate of a first-order run beside a module that is loaded and stepped for real."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zolit.memory.batches import Batches
from zolit.memory.first_order import estimate_first_order
from zolit.memory.tracker import LiveBytes
from zolit.models.adapters import LoRA
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.strategies import Float8, Int4, Int8, NoQuantizer
from zolit.tensors.weight import stored_weights
from zolit.training.first_order import FirstOrderModule

ADAM = {"optimizer": lambda params: torch.optim.AdamW(params, lr=1e-4)}
SGD = {"optimizer": lambda params: torch.optim.SGD(params, lr=1e-4)}
RECIPES: dict[str, dict[str, Any]] = {
    "AdamW": {"quantizer": NoQuantizer(), "dtype": "float32", **ADAM},
    "SGD, bfloat16": {"quantizer": NoQuantizer(), **SGD},
    "blocks again": {"quantizer": NoQuantizer(), "gradient_checkpointing": True, **ADAM},
    "LoRA": {"quantizer": NoQuantizer(), "adapter": LoRA(rank=4), "dtype": "float32", **ADAM},
    "QLoRA": {"quantizer": Int4(64), "adapter": LoRA(rank=4), **ADAM},
    "W8A8": {"quantizer": Int8(activations="int8"), **ADAM},
    "float8, micro": {"quantizer": Float8(), "master_dtype": "model", "micro_batches": 3, **ADAM},
}


def module(folder: Path, recipe: str) -> FirstOrderModule:
    return FirstOrderModule(ModelSource(str(folder)), kernels="reference", **RECIPES[recipe])


def batch(rows: int) -> PromptBatch:
    mask = torch.ones(rows, 48, dtype=torch.int64)
    mask[0, :5] = 0
    return PromptBatch(
        input_ids=torch.arange(rows * 48).view(rows, 48) % 300,
        attention_mask=mask,
        answer_positions=torch.full((rows, 1), 47),
        answer_ids=torch.tensor([[10], [20]]),
        labels=torch.zeros(rows, dtype=torch.int64),
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_agrees_with_a_real_step(recipe: str, tiny_llama: Path) -> None:
    train, evaluation = batch(16), batch(6)
    found = estimate_first_order(module(tiny_llama, recipe), Batches(train, evaluation, ""), base=0)

    real = module(tiny_llama, recipe)
    real.configure_model()
    real.network.eval()
    optimizer = real.optimizer_factory(real.weights)
    for _ in range(2):  # what stays is made in the first
        optimizer.zero_grad()
        with LiveBytes() as stepped:
            for _ in range(real.micro_batches):
                real.add_gradient(train)
        with LiveBytes() as moved:
            optimizer.step()
    gradients = sum(one.nbytes for one in real.weights)
    optimizer.zero_grad()
    with torch.no_grad(), LiveBytes() as evaluated:
        real.objective.scores(real.network, evaluation)

    assert found.gradients == gradients
    states = [t.nbytes for one in optimizer.state.values() for t in one.values() if t is not None]
    assert found.states == sum(states)
    stores = [weight.store for weight in stored_weights(real.network)]
    kept = sum(t.nbytes for store in stores for t in store.tensors().values())
    assert found.codes + found.scales == kept
    plain = sum(p.nbytes for p in real.network.parameters() if not hasattr(p, "store"))
    assert found.floats == plain + sum(b.nbytes for b in real.network.buffers())
    assert found.gradients + found.step == pytest.approx(stepped.peak, rel=0.05)
    assert found.gradients + found.update == pytest.approx(gradients + moved.peak, rel=0.05)
    waiting = gradients if real.micro_batches > 1 else 0
    assert found.evaluation == pytest.approx(evaluated.peak + waiting, rel=0.05)
    assert found.step > found.update / 10


def test_what_checkpointing_saves_and_lora_does_not_need(tiny_llama: Path) -> None:
    rows = Batches(batch(32), None, "")
    sizes = {
        name: estimate_first_order(module(tiny_llama, name), rows, base=0)
        for name in ("AdamW", "blocks again", "LoRA", "QLoRA")
    }
    assert sizes["blocks again"].step < 0.7 * sizes["AdamW"].step / 2, "bfloat16 is half as large"
    assert sizes["LoRA"].gradients < sizes["AdamW"].gradients / 20
    assert sizes["LoRA"].states == pytest.approx(2 * sizes["LoRA"].gradients, rel=0.01)
    assert sizes["QLoRA"].codes > 0
    assert sizes["QLoRA"].weights < sizes["LoRA"].weights / 2
