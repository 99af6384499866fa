"""LoRA by gradients beside PEFT, and between runs of both orders."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.adapters.base import adapted
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import DensePerturber, Int8, NoQuantizer
from zolit.training.first_order import FirstOrderModule
from zolit.training.zero_order import ZeroOrderModule

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from test_first_order import Data, module, same, trainer, weights
from tiny_models import tiny

TARGETS = ["q_proj", "v_proj", "down_proj"]


def test_steps_are_those_of_peft() -> None:
    """From the same factors, over the same batches."""
    peft = pytest.importorskip("peft")
    one = module(adapter=LoRA(rank=2, alpha=6.0, targets=TARGETS))
    settings = {"r": 2, "lora_alpha": 6.0, "target_modules": TARGETS, "lora_dropout": 0.0}
    theirs: Any = peft.get_peft_model(tiny("llama"), peft.LoraConfig(**settings)).eval()
    model = theirs.base_model.model
    factors = {}
    for path, _, adapter in adapted(one.network):
        layer = model.get_submodule(path)
        for name in ("lora_A", "lora_B"):
            mine, other = getattr(adapter, name).weight, getattr(layer, name)["default"].weight
            other.data.copy_(mine.data)
            factors[f"{path}.{name}"] = mine, other
    assert len(factors) == 12
    trainer(4).fit(one, Data().train_dataloader())

    objective = OptionScoring()
    objective.try_out(tiny("llama"))
    made = torch.optim.AdamW([other for _, other in factors.values()], lr=1e-3)
    loader = Data().train_dataloader()
    loader.sampler.set_epoch(0)
    for rows in list(loader)[:4]:
        made.zero_grad()
        objective.losses(model, rows)[0].backward()
        made.step()
    for mine, other in factors.values():
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)
        assert bool(other.abs().max() > 1e-3)


def zero_order(quantizer: Any, start: str | None) -> ZeroOrderModule:
    one = ZeroOrderModule(
        ModelSource("unused"),
        quantizer,
        DensePerturber(),
        adapter=LoRA(rank=2, targets=TARGETS),
        start_from=start,
        dtype="float32",
        kernels="reference",
    )
    one.adopt(tiny("llama"))
    return one


@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8()])
def test_a_run_of_one_order_starts_from_one_of_the_other(quantizer: Any, tmp_path: Path) -> None:
    def first(*start: str) -> FirstOrderModule:
        adapter = LoRA(rank=2, targets=TARGETS)
        return module(quantizer=quantizer, adapter=adapter, start_from=list(start))

    by_gradients = first()
    run = trainer(2)
    run.fit(by_gradients, Data().train_dataloader())
    file = tmp_path / "first.ckpt"
    run.save_checkpoint(file)
    assert not same(weights(by_gradients), weights(first()))
    along = zero_order(quantizer, str(file))
    assert same(weights(by_gradients), {n: t.clone() for n, t in along.state_dict().items()})
    back = tmp_path / "zeroth.ckpt"
    other = trainer(1)
    other.fit(along, Data().train_dataloader())
    other.save_checkpoint(back)
    assert same(weights(first(str(file), str(back))), along.state_dict())


def test_masters_are_no_start_for_codes(tmp_path: Path) -> None:
    masters = module(quantizer=Int8())
    run = trainer(1)
    run.fit(masters, Data().train_dataloader())
    run.save_checkpoint(tmp_path / "masters.ckpt")
    with pytest.raises(UserError, match="which the model lacks"):
        zero_order(Int8(), str(tmp_path / "masters.ckpt"))
