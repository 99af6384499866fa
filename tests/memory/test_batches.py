"""Batches that an estimate is made for."""

import lightning as L
import pytest

from zolit.errors import UserError
from zolit.memory.batches import largest_batches, prompts, shape
from zolit.objectives.prompt_batch import PromptBatch


class Lengths(L.LightningDataModule):
    """Batches of the given lengths."""

    def __init__(self, train: list[int], val: list[int]) -> None:
        super().__init__()
        self.train, self.val = train, val

    def train_dataloader(self) -> list[PromptBatch]:
        return [prompts(4, length) for length in self.train]

    def val_dataloader(self) -> list[PromptBatch]:
        return [prompts(6, length) for length in self.val]


@pytest.mark.parametrize(
    ("steps", "count", "largest", "evaluated", "shapes"),
    [(None, None, 9, 8, 5), (2, None, 7, 8, 4), (1, 1, 5, 5, 2)],
)
def test_the_batches_that_are_drawn(
    steps: int | None, count: int | None, largest: int, evaluated: int, shapes: int
) -> None:
    found = largest_batches(Lengths([5, 7, 5, 9], [5, 8]), steps, [("validate", count)])
    assert shape(found.train) == f"4 x {largest} tokens"
    assert shape(found.evaluation) == f"6 x {evaluated} tokens"
    assert found.shapes == shapes


def test_no_batch() -> None:
    with pytest.raises(UserError, match="there is no training batch"):
        largest_batches(Lengths([], []), None, [])
