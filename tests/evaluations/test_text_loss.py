import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import PAD, batch, tiny

from zolit.evaluations.text_loss import TextLoss
from zolit.objectives.prompt_batch import PromptBatch


def row_losses(name: str, rows: list[list[int]]) -> tuple[float, int]:
    """Sum and number of next-token losses, row by row without padding, by transformers itself."""
    model, total, count = tiny(name), 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            total += float(model(input_ids=ids, labels=ids).loss) * (len(row) - 1)
        count += len(row) - 1
    return total, count


def prompts(one: PromptBatch) -> list[list[int]]:
    pairs = zip(one.input_ids.tolist(), one.attention_mask.tolist(), strict=True)
    return [[token for token, real in zip(*pair, strict=True) if real] for pair in pairs]


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "gemma3"])
def test_it_is_transformers_own_loss(name: str) -> None:
    found = TextLoss()
    with torch.no_grad():
        found.update(tiny(name), batch(name))
    total, count = row_losses(name, prompts(batch(name)))
    assert found.value == pytest.approx(total / count, rel=1e-4)


def test_answers_of_several_tokens_are_left_out() -> None:
    base = batch("llama")
    words = [[30, 40], [31], [32]]
    rows = [row + word for row in prompts(base) for word in words]
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    answers = torch.tensor([[30, 40], [31, -1], [32, -1]])
    several = replace(
        base, input_ids=ids, attention_mask=mask, answer_ids=answers, options_per_prompt=3
    )
    found, plain = TextLoss(), TextLoss()
    with torch.no_grad():
        found.update(tiny("llama"), several)
        plain.update(tiny("llama"), base)
    assert found.value == pytest.approx(plain.value, rel=1e-4)


def test_the_first_32_prompts_are_read_and_no_more() -> None:
    found, few = TextLoss(), TextLoss()
    model, base = tiny("llama"), batch("llama")
    other = replace(
        base, input_ids=base.input_ids.flip(1), attention_mask=base.attention_mask * 0 + 1
    )
    with torch.no_grad():
        for _ in range(8):
            found.update(model, base)
        few.update(model, base)
        assert found.value == pytest.approx(few.value)
        found.update(model, other)
    assert found.value == pytest.approx(few.value)


def test_what_predicts_no_next_token_is_passed_over() -> None:
    masked, strange = TextLoss(), TextLoss()
    masked.update(tiny("roberta"), batch("roberta"))
    strange.update(tiny("llama"), {"ids": torch.zeros(2, 3)})
    assert masked.value is strange.value is None
