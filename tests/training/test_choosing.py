"""The steps of a run that chooses, beside weights that are really moved each way."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny_runs import contents, module, start
from torch import Tensor

from zolit.gradient import ProjectedGradient, taken_step
from zolit.noise import fold, signed
from zolit.optim import ZOSGD, ZOConservative
from zolit.runs.journal import Step
from zolit.strategies import DensePerturber, Mask, NoMask, NoQuantizer, RandomBlocks
from zolit.training.zero_order import ZeroOrderModule

LR = 0.3
FLOATS: dict[str, Any] = {
    "quantizer": NoQuantizer(),
    "perturber": DensePerturber(),
    "lr_scheduler": None,
}


class Watched(L.Callback):
    """The batch of each step, and what came of it."""

    def __init__(self) -> None:
        self.steps: list[tuple[Any, list[int], list[float]]] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        taken = taken_step(outputs)
        assert taken is not None
        self.steps.append((batch, taken.gradient.keys.tolist(), taken.gradient.values.tolist()))


@torch.no_grad()
def loss_after(one: ZeroOrderModule, batch: Any, key: Tensor, value: float) -> float:
    """The loss once the weights have really moved, which they are back from afterwards."""
    kept = [one_tensor.clone() for one_tensor in floats(one)]
    move(one, key, value)
    found = float(one.objective.losses(one.network, batch)[0])
    for tensor, before in zip(floats(one), kept, strict=True):
        tensor.copy_(before)
    return found


def floats(one: ZeroOrderModule) -> list[Tensor]:
    return [tensor for weight in one.weights for tensor in weight.store.tensors().values()]


def move(one: ZeroOrderModule, key: Tensor, value: float) -> None:
    gradient = ProjectedGradient(key, torch.tensor([value]), 0)
    ZOSGD(one.weights, lr=LR).step(gradient=gradient)


@pytest.mark.parametrize("mask", [NoMask(), RandomBlocks()], ids=lambda one: type(one).__name__)
def test_the_best_of_three_is_kept(mask: Mask, tmp_path: Path) -> None:
    options = {**FLOATS, "mask": mask}
    chosen = {**options, "optimizer": lambda params: ZOConservative(params, lr=LR)}
    watched = Watched()
    start(tmp_path, module("conservative", **chosen), watched, max_steps=14)
    again = module("conservative", **options)
    records = [one for one in contents(tmp_path).records if isinstance(one, Step)]
    found = []
    for record, (batch, keys, values) in zip(records, watched.steps, strict=True):
        assert (len(record.keys), list(record.values)) == (len(keys), values)
        key = torch.tensor([signed(fold(again.seed, 0, record.step, 0))])
        with torch.no_grad():
            value = float(again.estimate(batch, [fold(again.seed, 0, record.step, 0)]).values)
        losses = [loss_after(again, batch, key, sign * value) for sign in (1.0, 0.0, -1.0)]
        best = min(range(3), key=losses.__getitem__)
        assert values == pytest.approx([[value], [], [-value]][best], rel=1e-3)
        found.append(best)
        if values:
            assert keys == key.tolist()
            move(again, key, values[0])
    assert len(set(found)) > 1, "a run that always chooses alike tests nothing"
