"""The losses of short runs are those on record."""

import json

import pytest
from golden import GOLDEN, RECORD, losses
from recipes import Recipe


@pytest.mark.parametrize("recipe", GOLDEN, ids=str)
def test_losses_are_those_on_record(recipe: Recipe) -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    # Signs of projected gradients make the steps: products that round otherwise, on another
    # machine, change a loss in its last digits only.
    assert losses(recipe) == pytest.approx(record[str(recipe)], rel=2e-5)
