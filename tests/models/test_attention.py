"""Attention over short sequences: against torch's own in float64, and in every architecture."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import MODELS, batch, tiny
from torch import Tensor, nn

from zolit.models.attention import LONGEST, NAME, attention, use_short_attention
from zolit.objectives.option_scoring import OptionScoring

ROWS, WIDTH = 3, 16


def inputs(
    heads: int = 6, groups: int = 2, length: int = 7, seen: int = 7, dtype: Any = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(heads + length)
    shapes = ((heads, length), (groups, seen), (groups, seen))
    # As a layer has them: heads are a view of the products' outputs.
    query, key, value = (
        torch.randn(ROWS, n, h, WIDTH, generator=generator).to(dtype).transpose(1, 2)
        for h, n in shapes
    )
    return query, key, value


def expected(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Any:
    """torch's attention in float64, ``[B, T, H, E]``."""
    repeat = query.shape[1] // key.shape[1]
    parts = (query, *(one.repeat_interleave(repeat, dim=1) for one in (key, value)))
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    found = F.scaled_dot_product_attention(*(one.double() for one in parts), mask, **options)
    return found.transpose(1, 2)


def layer(causal: bool = True, repeat: int = 3) -> nn.Module:
    one = nn.Module()
    one.is_causal, one.num_key_value_groups = causal, repeat
    return one


def padded(length: int = 7) -> Tensor:
    """Causal, and the first two tokens of the last row are padding: its first rows see nothing."""
    mask = torch.ones(ROWS, 1, length, length, dtype=torch.bool).tril()
    mask[2, :, :, :2] = False
    return mask


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("length", [1, 7, LONGEST])
def test_causal(groups: int, length: int) -> None:
    parts = inputs(groups=groups, length=length, seen=length)
    out, none = attention(layer(), *parts, None, scaling=0.2)
    wanted = expected(*parts, None, is_causal=length > 1, scale=0.2)
    assert none is None
    assert out.is_contiguous()
    torch.testing.assert_close(out.double(), wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("how", ["module", "argument"])
def test_all_tokens_are_seen_where_a_layer_is_not_causal(how: str) -> None:
    parts = inputs()
    one = layer(causal=how == "argument")
    out, _ = attention(one, *parts, None, is_causal=False if how == "argument" else None)
    torch.testing.assert_close(out.double(), expected(*parts, None), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 6])
@pytest.mark.parametrize("floats", [False, True])
def test_masks(heads: int, floats: bool) -> None:
    parts = inputs()
    mask = padded().expand(ROWS, heads, 7, 7)
    if heads > 1:
        mask = mask.clone()
        mask[0, 3, 4, :2] = False
    given = torch.zeros(mask.shape).masked_fill(~mask, -1e9) if floats else mask
    out, _ = attention(layer(), *parts, given)
    wanted = expected(*parts, mask)
    seen = mask.any(-1).expand(ROWS, 6, 7).transpose(1, 2)
    torch.testing.assert_close(out.double()[seen], wanted[seen], atol=1e-6, rtol=1e-5)
    assert out.isfinite().all()


def test_one_token_after_others() -> None:
    """As a step of generation has it: one query, all keys seen."""
    parts = inputs(length=1, seen=9)
    out, _ = attention(layer(), *parts, None)
    torch.testing.assert_close(out.double(), expected(*parts, None), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (inputs(length=LONGEST + 1, seen=LONGEST + 1), {}),
        (inputs(), {"dropout": 0.1}),
        (inputs(), {"position_bias": torch.zeros(1, 6, 7, 7)}),
        (inputs(length=5, seen=7), {}),
    ],
    ids=["long", "dropout", "bias", "longer keys"],
)
def test_other_cases_are_left_to_sdpa(
    parts: tuple[Tensor, ...], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def sdpa(*arguments: Any, **_: Any) -> tuple[Tensor, None]:
        asked.append(arguments)
        return torch.zeros(1), None

    monkeypatch.setattr("zolit.models.attention.sdpa_attention_forward", sdpa)
    attention(layer(), *parts, None, **options)
    assert len(asked) == 1


def test_bfloat16_errs_little_more_than_sdpa() -> None:
    """Scores and weights are rounded to bfloat16 once each, as in transformers' eager attention."""
    parts = inputs(heads=6, groups=6, length=30, seen=30, dtype=torch.bfloat16)
    exact = expected(*parts, None, is_causal=True)
    out, _ = attention(layer(repeat=1), *parts, None)
    own = F.scaled_dot_product_attention(*parts, is_causal=True).transpose(1, 2)
    error, usual = (float((one.double() - exact).norm() / exact.norm()) for one in (out, own))
    assert error < 2 * usual < 0.01


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture(name: str) -> None:
    """Losses of prompts, two of them padded, as with transformers' own attention."""
    plain, model, one = tiny(name), tiny(name), batch(name)
    use_short_attention(model)
    assert model.config._attn_implementation == NAME
    assert NAME not in str(model.config.to_dict())
    objective = OptionScoring()
    with torch.no_grad():
        wanted, found = objective.losses(plain, one), objective.losses(model, one)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-5)


def test_models_with_attention_of_their_own_keep_it() -> None:
    for implementation, changeable in (("eager", True), ("sdpa", False)):
        config = SimpleNamespace(_attn_implementation=implementation)

        def refuse(_: str) -> None:
            raise AssertionError("changed")

        model = SimpleNamespace(
            config=config,
            _can_set_attn_implementation=lambda changeable=changeable: changeable,
            set_attn_implementation=refuse,
        )
        use_short_attention(model)
    use_short_attention(nn.Linear(2, 2))
