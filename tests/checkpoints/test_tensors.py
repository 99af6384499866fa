"""Stored weights as plain tensors, and fingerprints that tell models apart."""

import pytest
import torch
from tiny_models import prepared

from zolit.checkpoints.tensors import (
    check_fingerprint,
    fingerprint,
    load_weight_tensors,
    weight_tensors,
)
from zolit.errors import UserError
from zolit.strategies import Int4, Int8

ONE_LAYER = ["model.layers.0.mlp.*"]


def test_round_trip_in_place() -> None:
    one, _, _ = prepared("llama", Int4(32))
    two, _, _ = prepared("llama", Int4(32))
    for tensor in weight_tensors(one).values():
        tensor.add_(1)
    addresses = {name: tensor.data_ptr() for name, tensor in weight_tensors(two).items()}
    load_weight_tensors(two, weight_tensors(one))
    for name, tensor in weight_tensors(two).items():
        assert torch.equal(tensor, weight_tensors(one)[name])
        assert tensor.data_ptr() == addresses[name]
        assert type(tensor) is torch.Tensor


def test_only_tuned_weights_are_kept() -> None:
    model, _, _ = prepared("llama", Int8(), ONE_LAYER)
    assert sorted(weight_tensors(model)) == sorted(
        f"model.layers.0.mlp.{layer}.weight.{part}"
        for layer in ("gate_proj", "up_proj", "down_proj")
        for part in ("codes", "scale")
    )


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "dtype"])
def test_a_wrong_tensor_is_refused_and_nothing_changes(fault: str) -> None:
    model, _, _ = prepared("llama", Int8(), ONE_LAYER)
    tensors = {name: tensor + 1 for name, tensor in weight_tensors(model).items()}
    before = {name: tensor.clone() for name, tensor in weight_tensors(model).items()}
    name = sorted(tensors)[-1]
    if fault == "missing":
        del tensors[name]
    elif fault == "extra":
        tensors["more"] = torch.zeros(1)
    elif fault == "shape":
        tensors[name] = tensors[name][1:]
    else:
        tensors[name] = tensors[name].double()
    with pytest.raises(UserError, match="ckpt_path"):
        load_weight_tensors(model, tensors)
    for key, tensor in weight_tensors(model).items():
        assert torch.equal(tensor, before[key])


def test_fingerprints_tell_models_and_formats_apart() -> None:
    mine = fingerprint(prepared("llama", Int8())[0])
    check_fingerprint(mine, fingerprint(prepared("llama", Int8())[0]))
    with pytest.raises(UserError, match=r"another model, its weight .* is Int8Weight"):
        check_fingerprint(fingerprint(prepared("llama", Int4(32))[0]), mine)
    with pytest.raises(UserError, match="another model, its weight"):
        check_fingerprint(fingerprint(prepared("opt", Int8())[0]), mine)
    other = prepared("llama", Int8())[0]
    other.model.norm.weight.mul_(2.0)
    with pytest.raises(UserError, match="frozen weights"):
        check_fingerprint(fingerprint(other), mine)
