"""A module finds out by itself how steps may pass through its model."""

import pytest
import torch
from odd_models import odd, rows
from torch import Tensor

from zolit.models.anatomy import block_lists
from zolit.models.passes.calls import Stage, wrap_call
from zolit.models.source import ModelSource
from zolit.strategies import Int8, ScalePerturber, TwoPoint
from zolit.training.zero_order import ZeroOrderModule


def adopted(name: str, paired: bool = True, tune: str = "linear") -> ZeroOrderModule:
    module = ZeroOrderModule(
        source=ModelSource(path="unused"),
        quantizer=Int8(),
        perturber=ScalePerturber(0.05),
        estimator=TwoPoint(paired=paired),
        tune=[tune],
        dtype="float32",
        kernels="reference",
    )
    module.adopt(odd(name))
    module.network.eval()
    return module


@torch.no_grad()
def values(module: ZeroOrderModule, name: str) -> Tensor:
    with module.reading.same_batch():
        return module.estimate(rows(name), [1, 2]).values


@pytest.mark.parametrize(
    ("name", "pairable"), [("longformer", False), ("deberta", False), ("llama", True)]
)
def test_estimates_do_not_depend_on_how_they_are_made(name: str, pairable: bool) -> None:
    one, other = adopted(name), adopted(name, paired=False)
    assert one.pairable == pairable
    found, wanted = values(one, name), values(other, name)
    torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-5)
    assert wanted.abs().min() > 1e-4


def test_bloom_with_its_last_block_tuned() -> None:
    module = adopted("bloom", tune="transformer.h.1.*dense*.weight")
    bare = adopted("bloom", tune="transformer.h.1.*dense*.weight", paired=False)
    for block in block_lists(bare.network)[0]:
        wrap_call(block, Stage.PREFIX, None)  # nothing is shared
    seen: list[int] = []
    first = block_lists(module.network)[0][0]
    first.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    found = values(module, "bloom")
    assert seen == [4]
    torch.testing.assert_close(found, values(bare, "bloom"), rtol=1e-2, atol=1e-5)
