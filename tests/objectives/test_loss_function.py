"""A loss of the user's own: repeated for both signs, and refused where it cannot be right."""

import pytest
import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.objectives.loss_function import LossFunction


def squared_error(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return (model(batch["x"]).squeeze(1) - batch["y"]) ** 2


class Signs(nn.Module):
    """Adds one to the first half of the rows and subtracts it from the other, as a pair does."""

    def forward(self, x: Tensor) -> Tensor:
        half = len(x) // 2
        return torch.cat([x[:half] + 1, x[half:] - 1])


BATCH = {"x": torch.tensor([[1.0], [2.0], [4.0]]), "y": torch.zeros(3)}


def test_each_copy_has_the_mean_of_its_rows():
    losses = LossFunction(squared_error).losses(Signs(), BATCH, copies=2)
    assert losses.tolist() == pytest.approx([(4 + 9 + 25) / 3, (0 + 1 + 9) / 3])


def test_a_tuple_and_what_is_no_tensor():
    def loss(model, batch):
        x, y, scale = batch
        return scale * (model(x).squeeze(1) - y) ** 2

    batch = (BATCH["x"], BATCH["y"], 2.0)
    losses = LossFunction(loss).losses(Signs(), batch, 2)
    assert losses.tolist() == pytest.approx([2 * (4 + 9 + 25) / 3, 2 * (0 + 1 + 9) / 3])


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda model, batch: model(batch["x"]).mean(), "a single number"),
        (lambda model, batch: model(batch["x"]), r"a tensor of shape \[6, 1\]"),
        (lambda model, batch: 0.5, "a float"),
    ],
)
def test_another_shape_is_refused(loss, got):
    with pytest.raises(UserError, match=rf"returned {got} for 6 rows \(the batch's 3, 2 times"):
        LossFunction(loss).losses(Signs(), BATCH, 2)
    with pytest.raises(UserError, match=r"for a batch of 3 rows, expected .* shape \[3\], one"):
        LossFunction(lambda model, batch: 0.5).losses(Signs(), BATCH)


def test_a_loss_that_is_the_same_for_both_signs_is_refused_together():
    loss = LossFunction(lambda model, batch: batch["y"])
    with pytest.raises(UserError, match="the same loss for both reads"):
        loss.losses(Signs(), BATCH, 2)


def test_a_loss_that_is_the_same_for_both_signs_is_refused_one_by_one():
    loss = LossFunction(lambda model, batch: batch["y"])
    loss.losses(Signs(), BATCH)
    with pytest.raises(UserError, match="the same loss for both reads"):
        loss.losses(Signs(), BATCH)


def test_the_first_difference_is_enough():
    def loss(model, batch):
        return model(batch["x"]).squeeze(1)

    objective = LossFunction(loss)
    objective.losses(Signs(), BATCH, 2)
    objective.losses(nn.Identity(), BATCH, 2)  # a flat place later on is no fault


def test_parts_of_other_lengths_are_refused():
    with pytest.raises(UserError, match=r"lengths \[2, 3\], expected one number of rows"):
        LossFunction(squared_error).losses(Signs(), {**BATCH, "y": torch.zeros(2)}, 2)
    with pytest.raises(UserError, match="lengths"):
        LossFunction(squared_error).losses(Signs(), {"names": ["a"]}, 2)
