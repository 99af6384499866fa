"""How far weights have moved, against the decoded weights before and behind."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import prepared

from zolit import (
    CodePerturber,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    Magnitude,
    NoQuantizer,
    ScalePerturber,
    SparsePerturber,
)
from zolit.checkpoints.moved import group_of, relative_moves
from zolit.checkpoints.tensors import weight_tensors
from zolit.strategies import Mask, Perturber, Quantizer
from zolit.tensors.update import move
from zolit.tensors.weight import perturbed_weights

Parts = tuple[str, Quantizer, Perturber, Mask | None, float]
PARTS: dict[str, Parts] = {
    "floats": ("llama", NoQuantizer(), DensePerturber(), None, 1e-2),
    "transposed": ("gpt2", NoQuantizer(), DensePerturber(), None, 1e-2),
    "int8 codes": ("llama", Int8(), CodePerturber(), None, 2.0),
    "int4 codes": ("llama", Int4(group_size=32), CodePerturber(), None, 0.4),
    "float8 codes": ("llama", Float8(), CodePerturber(), None, 5.0),
    "scales": ("llama", Int4(group_size=32), ScalePerturber(), None, 0.1),
    "a few floats": ("llama", Int4(group_size=32), SparsePerturber(), Magnitude(0.01), 0.1),
}


@pytest.mark.parametrize("name", PARTS)
def test_share_of_the_length(name: str) -> None:
    model_name, quantizer, perturber, mask, length = PARTS[name]
    model, _, _ = prepared(model_name, quantizer, perturber=perturber, mask=mask)
    weights = perturbed_weights(model)
    before = {key: one.clone() for key, one in weight_tensors(model).items()}
    values = {one.path: one.dense().double() for one in weights}
    assert set(relative_moves(model, before).values()) == {0.0}
    move(weights, [3, 4], [length, -length / 2], 9, [None] * len(weights))
    found = relative_moves(model, before)
    change, size = {}, {}
    for one in weights:
        for group in ("all", group_of(one.path)):
            moved = (one.dense().double() - values[one.path]).square().sum()
            change[group] = change.get(group, 0.0) + float(moved)
            size[group] = size.get(group, 0.0) + float(values[one.path].square().sum())
    assert found.keys() == change.keys()
    assert len(found) >= 4
    for group, share in found.items():
        assert share == pytest.approx((change[group] / size[group]) ** 0.5, rel=1e-5)
        assert share is not None
        assert share > 1e-4


def test_weights_that_were_zero() -> None:
    model, _, _ = prepared("llama", NoQuantizer(), perturber=DensePerturber(), tune=["norms"])
    before = {key: torch.zeros_like(one) for key, one in weight_tensors(model).items()}
    assert set(relative_moves(model, before).values()) == {None}


def test_groups() -> None:
    assert group_of("model.layers.12.mlp.experts.down_proj") == "experts.down_proj"
    assert group_of("model.embed_tokens.weight") == "embed_tokens"
    assert group_of("weight") == "weight"
