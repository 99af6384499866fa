"""What every optimizer keeps with each kind of coordinates: replay, resume, the mask."""

import io
from typing import Any

import pytest
import torch
from recipes import (
    OF_EACH_KIND,
    OPTIMIZERS,
    Recipe,
    changed,
    estimate,
    learning_rate,
    on_llama,
    stored,
    train,
)

import zolit
from zolit.optim import ZOSGD
from zolit.strategies import ConstantQueries
from zolit.training.zero_order import ZeroOrderModule

PAIRS = [(name, recipe) for name in OPTIMIZERS for recipe in OF_EACH_KIND]


def with_optimizer(name: str, recipe: Recipe) -> ZeroOrderModule:
    """A module whose steps move about as far as the table's rates for `ZOSignSGD` do."""
    one, config = on_llama(recipe, query_scheduler=ConstantQueries(2)), OPTIMIZERS[name]
    lr, feedback = learning_rate(recipe), "keep_error" in recipe.quantizer
    cls: type[ZOSGD] = getattr(zolit, name)
    if cls.needs_lr is None:
        lr /= float(estimate(one, [11, 12]).abs().mean())
    options: dict[str, Any] = {"lr": lr, "error_feedback": feedback, **config["init_args"]}
    one.optimizer_factory = lambda params: cls(params, **options)
    return one


@pytest.mark.parametrize(("name", "recipe"), PAIRS, ids=str)
def test_it_replays_and_goes_on_from_its_state(name: str, recipe: Recipe) -> None:
    one = with_optimizer(name, recipe)
    start = stored(one)
    first = train(one, steps=3)
    middle = stored(one)
    assert changed(start, middle), "the steps are too short for this test"

    replayed = with_optimizer(name, recipe)
    optimizer = replayed.configure_optimizers()
    for gradient in first:
        optimizer.step(gradient=gradient)
    assert changed(middle, stored(replayed)) == []

    file = io.BytesIO()
    torch.save({"weights": replayed.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    kept = torch.load(file, weights_only=True)
    resumed = with_optimizer(name, recipe)
    resumed.load_state_dict(kept["weights"])
    again = resumed.configure_optimizers()
    again.load_state_dict(kept["optimizer"])
    for gradient in first:
        for each in (optimizer, again):
            each.step(gradient=gradient)
    assert changed(stored(replayed), stored(resumed)) == []
