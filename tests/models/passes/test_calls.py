"""What stands before a module: one order, whoever comes first, and nothing of a user's is lost."""

from copy import deepcopy
from itertools import permutations
from typing import Any

import pytest
import torch
from tiny_models import prepared, tiny
from torch import nn

from zolit.errors import UserError
from zolit.models.families import last_logits
from zolit.models.passes.answer_head import only_answers
from zolit.models.passes.arrange import arrange_passes
from zolit.models.passes.calls import Call, Stage, Wrap, check_calls, wrap_call, wrapped_call
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.strategies import Int8


def noting(name: str, seen: list[str]) -> Wrap:
    def wrap(inner: Call) -> Call:
        def call(*arguments: Any) -> Any:
            seen.append(name)
            return inner(*arguments)

        return call

    return wrap


@pytest.mark.parametrize("order", permutations(Stage))
def test_the_order_is_that_of_the_stages(order: tuple[Stage, ...]) -> None:
    layer, seen = nn.Identity(), []
    layer.register_forward_hook(lambda *_: seen.append("hook"))
    for stage in order:
        wrap_call(layer, stage, noting(stage.name, seen))
    layer(1)
    assert seen == ["RECOMPUTED", "GIVEN", "ANSWERS", "PREFIX", "COMPILED", "hook"]


def test_a_stage_takes_the_place_of_one_of_its_kind_and_leaves() -> None:
    layer, seen = nn.Identity(), []
    first, second = noting("first", seen), noting("second", seen)
    assert wrap_call(layer, Stage.PREFIX, first) is None
    with wrapped_call(layer, Stage.PREFIX, second):
        layer(1)
    layer(1)
    assert wrap_call(layer, Stage.PREFIX, None) is first
    layer(1)
    assert seen == ["second", "first"]
    assert layer._compiled_call_impl is None


def test_a_copy_has_no_stages() -> None:
    layer, seen = nn.Linear(2, 2), []
    wrap_call(layer, Stage.COMPILED, noting("compiled", seen))
    deepcopy(layer)(torch.ones(2))
    assert seen == []


def compiled_by_its_user(part: str) -> nn.Module:
    model = tiny("llama")
    model.get_submodule(part).compile(backend="eager")
    return model


@pytest.mark.parametrize("part", ["", "model.layers.1", "lm_head"])
def test_a_model_that_its_user_compiled_is_refused(part: str) -> None:
    """Not overwritten, and not left before weights that read as something else each time."""
    model, reading, _ = prepared("llama", Int8())
    model.get_submodule(part).compile(backend="eager")
    before = model.get_submodule(part)._compiled_call_impl
    name = part or "LlamaForCausalLM"
    with pytest.raises(UserError, match=rf"got {name} compiled by torch already"):
        arrange_passes(model, reading, last_logits, True, False, False)
    assert model.get_submodule(part)._compiled_call_impl is before


def test_a_wrapper_of_torch_compile_is_refused() -> None:
    with pytest.raises(UserError, match="OptimizedModule compiled by torch already"):
        check_calls(torch.compile(tiny("llama"), backend="eager"))


def test_stages_do_not_overwrite_it() -> None:
    with (
        pytest.raises(UserError, match="leave its compile"),
        only_answers(compiled_by_its_user("lm_head"), torch.tensor([3, 1])),
    ):
        pass
    model, _, _ = prepared("llama", Int8())
    model.model.layers[0].compile(backend="eager")
    with pytest.raises(UserError, match="LlamaDecoderLayer compiled by torch already"):
        compile_blocks(model)
