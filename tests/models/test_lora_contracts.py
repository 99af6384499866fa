"""What every perturbed weight keeps, kept by the factors of an adapter: on a tiny Llama."""

import io
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy_noise import control_words
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "contracts"))
sys.path.insert(0, str(Path(__file__).parents[1]))
from recipes import (
    MATRIX,
    QUANTIZERS,
    Recipe,
    changed,
    estimate,
    learning_rate,
    module,
    on_llama,
    refusal,
    stored,
    train,
)
from tiny_runs import STEPS, Kill, contents, resume, sgd, start
from tiny_runs import module as run_module

from zolit.checkpoints.tensors import weights_digest
from zolit.models.adapters import LoRA
from zolit.models.adapters.base import floats
from zolit.noise import coordinates, fold
from zolit.objectives.base import Objective
from zolit.optim import ZOSignSGD
from zolit.runs.journal import Weights
from zolit.training.zero_order import ZeroOrderModule

DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
FACTORS = 8  # A and B, two targets, two layers


def with_lora(recipe: Recipe, tune: list[str] | None = None, **options: Any) -> ZeroOrderModule:
    lr = learning_rate(recipe)
    defaults = {"optimizer": lambda params: ZOSignSGD(params, lr=lr)}
    return on_llama(recipe, adapter=LoRA(rank=4), tune=tune, **{**defaults, **options})


# Each quantizer, and each perturber, some of them refused where codes move.
ALONE = [
    *(Recipe(q, "DensePerturber") for q in QUANTIZERS),
    *(one for one in MATRIX if one.quantizer == "Int8" and one.perturber != "DensePerturber"),
    Recipe("NoQuantizer", "CodePerturber"),
    Recipe("Int4", "ScalePerturber", "RandomMask", "ClippedTwoPoint"),
]
JOINT = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher"),
    Recipe("Int4", "ScalePerturber"),
    Recipe("Float8", "CodePerturber"),
]
CASES = [*((one, ["adapter"]) for one in ALONE), *((one, ["linear", "adapter"]) for one in JOINT)]
IDS = [f"{recipe}, {' and '.join(tune)}" for recipe, tune in CASES]


@pytest.mark.parametrize(("recipe", "tune"), CASES, ids=IDS)
def test_reads_change_nothing_updates_replay_and_states_return(
    recipe: Recipe, tune: list[str]
) -> None:
    one = with_lora(recipe, tune)
    assert len(one.weights) == FACTORS + (14 if "linear" in tune else 0)
    begin = stored(one)
    assert estimate(one, [11, 12]).isfinite().all()
    assert changed(begin, stored(one)) == []
    history = train(one, steps=3)
    end = stored(one)
    moved = {name.rpartition(".")[0] for name in changed(begin, end)}
    assert moved == {weight.path for weight in one.weights}

    replayed = with_lora(recipe, tune)
    optimizer = replayed.configure_optimizers()
    for gradient in history:
        optimizer.step(gradient=gradient)
    assert changed(end, stored(replayed)) == []

    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other = with_lora(recipe, tune)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert changed(end, stored(other)) == []


def test_what_combines_is_as_documented() -> None:
    """With the adapter alone everything does; jointly what does without it."""
    for recipe in MATRIX:
        assert module(recipe, adapter=LoRA()).tune == ["adapter"]
        try:
            module(recipe, adapter=LoRA(), tune=["linear", "adapter"])
            said = None
        except Exception as error:
            said = str(error)
        assert said == refusal(recipe)
    text = re.sub(r"\s+", " ", DOCS.read_text(encoding="utf-8"))
    assert "with `tune: [adapter]` every quantizer combines with every perturber" in text


class SquaredError(Objective):
    """Mean over the batch of ``|f(x) - y|^2 / 2``."""

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], copies: int = 1) -> Tensor:
        x, y = (part.repeat(copies, 1) for part in batch)
        squares = ((model(x) - y) ** 2).double()
        return squares.view(copies, -1).mean(1) * squares.shape[1] / 2


ROWS, COLUMNS, RANK, KEYS = 5, 64, 3, 300


QUADRATIC = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("Int4", "ScalePerturber, rademacher"),
    Recipe("Int8, activations int8", "ScalePerturber"),
    Recipe("Float8", "CodePerturber, unrounded"),
]


@pytest.mark.parametrize("recipe", QUADRATIC, ids=str)
def test_unbiased_on_a_quadratic(recipe: Recipe) -> None:
    """The loss is quadratic in B; bounds as in tests/contracts/test_estimates.py, |z| < 5."""
    tune = ["*.lora_B.weight"]
    one = module(recipe, objective=SquaredError(), adapter=LoRA(RANK, 6.0, ["0"]), tune=tune)
    layer = nn.Linear(COLUMNS, ROWS, bias=False).requires_grad_(False)
    draw = torch.Generator().manual_seed(2)
    layer.weight.copy_(torch.randn(ROWS, COLUMNS, generator=draw))
    one.adopt(nn.Sequential(layer))
    [weight] = one.weights
    weight.store.weight.copy_(torch.randn(ROWS, RANK, generator=draw))
    x = torch.randint(-1, 2, (8, COLUMNS), generator=draw).float()
    y = torch.randn(8, ROWS, generator=draw)

    a, b = one.network[0].adapter.lora_A.weight.double(), weight.dense().double()
    base = floats(one.network[0].weight).double()
    xd = x.double()
    residual = xd @ base.T + 2.0 * (xd @ a.T) @ b.T - y.double()
    g = (2.0 * residual.T @ (xd @ a.T) / len(x)).numpy() * weight.site.coordinates.unit[1]

    keys = [fold(5, key) for key in range(KEYS)]
    values = estimate(one, keys, (x, y)).double().numpy()
    z = []
    for key in keys:
        words = torch.tensor(control_words(key, weight.site.index))
        rows = torch.arange(ROWS, dtype=torch.int32)
        found = coordinates(one.reading.direction, words.int(), rows, 1, 1)
        z.append(found.view(ROWS, 32)[:, :RANK].double().numpy())
    directions = np.stack(z)
    slopes = (directions * g).reshape(KEYS, -1).sum(1)
    np.testing.assert_allclose(values, slopes, atol=3e-3 * np.abs(slopes).max())
    estimates = (values[:, None, None] * directions).reshape(KEYS, -1)
    spread = estimates.std(0, ddof=1) / math.sqrt(KEYS)
    assert np.abs((estimates.mean(0) - g.ravel()) / spread).max() < 5
    along = (estimates * g.ravel()).sum(1) / (g**2).sum()
    assert abs(along.mean() - 1) / (along.std(ddof=1) / math.sqrt(KEYS)) < 5
    assert along.mean() / (along.std(ddof=1) / math.sqrt(KEYS)) > 5


@pytest.mark.parametrize("tune", [["adapter"], ["linear", "adapter"]], ids=" and ".join)
@pytest.mark.parametrize("steps", [1, 7, 12])
def test_resumed_is_undisturbed(tune: list[str], steps: int, tmp_path: Path) -> None:
    def fresh() -> ZeroOrderModule:
        options = {"optimizer": sgd(0.05), "adapter": LoRA(rank=2), "tune": tune}
        return run_module("scales", **options)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir(), cut.mkdir()
    undisturbed, again = fresh(), fresh()
    start(whole, undisturbed)
    start(cut, fresh(), Kill("on_train_batch_start", steps))
    resume(cut, again)
    mine, theirs = contents(cut), contents(whole)
    assert mine.steps == theirs.steps
    assert len(theirs.steps) == STEPS
    [final] = [r for r in theirs.records if isinstance(r, Weights) and r.final]
    assert weights_digest(again.network) == weights_digest(undisturbed.network) == final.digest
