"""A projected gradient holds keys and values that belong together."""

import pytest
import torch

from zolit.gradient import ProjectedGradient


def test_length_is_the_number_of_valid_queries() -> None:
    keys = torch.tensor([-1, 5])
    assert len(ProjectedGradient(keys, torch.zeros(2), 0)) == 2
    assert len(ProjectedGradient(keys[:0], torch.zeros(0), 0)) == 0


@pytest.mark.parametrize(
    ("keys", "values", "error"),
    [
        (torch.zeros(2, dtype=torch.int32), torch.zeros(2), TypeError),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.float64), TypeError),
        (torch.zeros(2, dtype=torch.int64), torch.zeros(3), ValueError),
        (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 1), ValueError),
    ],
)
def test_wrong_types_and_shapes(
    keys: torch.Tensor, values: torch.Tensor, error: type[Exception]
) -> None:
    with pytest.raises(error, match="keys"):
        ProjectedGradient(keys, values, 0)
