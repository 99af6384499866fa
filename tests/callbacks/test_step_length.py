import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_zero_order import loader, module, trainer

from zolit.callbacks.step_length import StepLength
from zolit.optim import ZOSGD
from zolit.strategies import ConstantQueries, DensePerturber, NoQuantizer, RandomBlocks


@pytest.mark.parametrize("mask", [None, RandomBlocks(blocks=1)])
def test_it_foretells_how_far_the_weights_move(mask: Any) -> None:
    one = module(
        quantizer=NoQuantizer(),
        perturber=DensePerturber(),
        optimizer=lambda params: ZOSGD(params, lr=1e-4),
        query_scheduler=ConstantQueries(2),
        mask=mask,
    )
    length = StepLength(one)
    assert (length.steps, length.relative, length.reach) == (0, 0.0, 0.0)
    before = [weight.dense().double() for weight in one.weights]

    run = trainer(20)
    one.on_train_batch_end = lambda outputs, *_: length.take(outputs["taken"], run.optimizers[0])  # type: ignore[method-assign]
    run.fit(one, loader())
    after = [weight.dense().double() for weight in one.weights]
    size = sum(float(w.square().sum()) for w in before)
    moved = sum(float((a - b).square().sum()) for a, b in zip(after, before, strict=True))
    assert length.steps == 20
    assert length.reach == pytest.approx((moved / size) ** 0.5, rel=0.25)
    assert length.relative == pytest.approx(length.reach / 20**0.5)
    assert length.without_move == 0
