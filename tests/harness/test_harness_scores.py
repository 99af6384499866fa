"""Log-probabilities of continuations, against float64 on each pair alone."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import VOCAB, tiny

from zolit.harness import scores
from zolit.harness.scores import Pair, continuation_scores

MOST = 12


def pairs() -> list[Pair]:
    """Of many lengths; some share what is read, one is longer than the model reads."""
    draw = torch.Generator().manual_seed(3)

    def tokens(count: int) -> list[int]:
        return torch.randint(2, VOCAB, (count,), generator=draw).tolist()

    prompt = tokens(5)
    found = [Pair(prompt, [one]) for one in tokens(3)]
    found += [Pair(tokens(n), tokens(m)) for n, m in ((1, 1), (7, 3), (4, 6), (11, 1), (30, 4))]
    return [*found, Pair(prompt[:3], [*prompt[3:], 9])]


def alone(model: nn.Module, pair: Pair) -> tuple[float, bool]:
    whole = [*pair.context, *pair.continuation][-(MOST + 1) :]
    with torch.no_grad():
        logits = model(torch.tensor([whole[:-1]])).logits[0].double()
    wanted = torch.tensor(pair.continuation)
    used = logits[len(logits) - len(wanted) :]
    each = used.log_softmax(dim=1).gather(1, wanted.unsqueeze(1))
    return float(each.sum()), bool((used.argmax(dim=1) == wanted).all())


@pytest.mark.parametrize("together", ["all", "one length", "one row"])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_each_pair_as_if_it_were_alone(together: str, size: int) -> None:
    model = tiny("llama")
    found = sorted(continuation_scores(model, pairs(), MOST, together, size))
    assert [number for number, _, _ in found] == list(range(len(pairs())))
    for (_, total, greedy), pair in zip(found, pairs(), strict=True):
        wanted, likeliest = alone(model, pair)
        assert total == pytest.approx(wanted, abs=2e-5)
        assert greedy is likeliest


def test_the_likeliest_continuation_is_known_as_such() -> None:
    model = tiny("llama")
    written: list[int] = []
    for _ in range(3):
        with torch.no_grad():
            logits = model(torch.tensor([[5, 6, 7, *written]])).logits
        written.append(int(logits[0, -1].argmax()))
    other = [*written[:2], (written[2] + 1) % VOCAB]
    found = sorted(
        continuation_scores(
            model, [Pair([5, 6, 7], written), Pair([5, 6, 7], other)], MOST, "all", 4
        )
    )
    assert [greedy for _, _, greedy in found] == [True, False]


def test_options_of_one_token_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    real = scores.answer_logits

    def counted(model, ids, mask, positions):
        rows.append(len(ids))
        return real(model, ids, mask, positions)

    monkeypatch.setattr(scores, "answer_logits", counted)
    four = [Pair([5, 6, 7], [option]) for option in (10, 11, 12, 13)]
    assert len(list(continuation_scores(tiny("llama"), four, MOST, "all", 4))) == 4
    assert rows == [1]


def test_logits_that_are_in_memory_at_once_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []
    real = scores.answer_logits

    def counted(model, ids, mask, positions):
        shapes.append(positions.numel() * VOCAB)
        return real(model, ids, mask, positions)

    model = tiny("llama")
    whole = sorted(continuation_scores(model, pairs(), MOST, "all", 100))
    monkeypatch.setattr(scores, "answer_logits", counted)
    monkeypatch.setattr(scores, "AT_ONCE", 8 * VOCAB)
    parts = sorted(continuation_scores(model, pairs(), MOST, "all", 100))
    assert max(shapes) <= 8 * VOCAB
    assert len(shapes) > 1
    for one, other in zip(whole, parts, strict=True):
        assert one[1] == pytest.approx(other[1], abs=2e-5)
