"""What HiZOO and DiZO keep of the size of weights is named in an estimate, beside a real run."""

from pathlib import Path
from typing import Any

import pytest
import torch

from zolit.gradient import ProjectedGradient
from zolit.memory.batches import Batches
from zolit.memory.counting import bytes_of, state_tensors
from zolit.memory.estimate import estimate_memory
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import DiZO, HiZOO
from zolit.strategies import CodePerturber, Int4, LayerLengths, ScalePerturber, SecondDifference
from zolit.training.zero_order import ZeroOrderModule

ROWS = PromptBatch(
    input_ids=torch.arange(4 * 32).view(4, 32) % 300,
    attention_mask=torch.ones(4, 32, dtype=torch.int64),
    answer_positions=torch.full((4, 1), 31),
    answer_ids=torch.tensor([[5], [6]]),
    labels=torch.tensor([0, 1, 1, 0]),
)


def made(folder: Path, perturber: Any, **options: Any) -> ZeroOrderModule:
    source = ModelSource(str(folder))
    return ZeroOrderModule(source, Int4(32), perturber, kernels="reference", **options)


@pytest.mark.parametrize("perturber", [CodePerturber(), ScalePerturber(granularity="group")])
def test_a_float_of_curvature_for_each_coordinate(perturber: Any, tiny_llama: Path) -> None:
    options: dict[str, Any] = {
        "estimator": SecondDifference(),
        "optimizer": lambda params: HiZOO(params, 1e-6),
    }
    found = estimate_memory(made(tiny_llama, perturber, **options), Batches(ROWS, None, ""), 0)
    real = made(tiny_llama, perturber, **options)
    real.configure_model()
    optimizer = real.configure_optimizers()
    shapes = [w.site.coordinates.shape(w.store) for w in real.weights if w.site is not None]
    padded = [rows * -(-columns // 32) * 32 for rows, columns in shapes]
    assert found.states == bytes_of(state_tensors(optimizer)) == 4 * sum(padded)
    assert found.feedback == 0


def test_a_second_copy_of_the_layers_whose_length_is_learned(tiny_llama: Path) -> None:
    options: dict[str, Any] = {
        "estimator": LayerLengths(),
        "optimizer": lambda params: DiZO(params, 1.0, interval=1, iterations=1),
    }
    one = made(tiny_llama, CodePerturber(), **options)
    found = estimate_memory(one, Batches(ROWS, None, ""), 0)
    real = made(tiny_llama, CodePerturber(), **options)
    real.configure_model()
    optimizer: Any = real.configure_optimizers()
    kept = [w for w in real.weights if "q_proj" in w.path or "v_proj" in w.path]
    assert found.states == sum(t.nbytes for w in kept for t in w.store.tensors().values())
    assert found.states == bytes_of(state_tensors(optimizer))
    # A step that learns reads two decoded versions: its temporaries are among those of a step.
    with torch.no_grad():
        optimizer.step(gradient=ProjectedGradient(torch.tensor([1]), torch.tensor([0.1]), 1))
        assert optimizer.lengths.learning
        assert real.estimate(ROWS, [5]).values.isfinite().all()
