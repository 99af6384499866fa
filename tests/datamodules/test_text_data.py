"""Windows of a text, and their perplexity against a loop over single windows."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from zolit.calibration.text import strided_windows
from zolit.datamodules import TextDataModule
from zolit.datamodules.text import window_batch
from zolit.errors import UserError
from zolit.evaluations import Perplexity
from zolit.models.source import ModelSource
from zolit.objectives import AnswerLoss, LanguageModeling

TEXT = " ".join(
    f"film {n} is {'dull and long' if n % 2 else 'bright and short'} ." for n in range(90)
)


@pytest.fixture
def text(tmp_path: Path) -> str:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return str(file)


def loop(model: Any, ids: torch.Tensor, length: int, stride: int) -> tuple[float, int]:
    """Sum and number of losses as in transformers' documentation of perplexity, in float64."""
    total, count, known = 0.0, 0, 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        window, new = ids[begin:end].unsqueeze(0), end - known
        labels = window.clone()
        labels[:, :-new] = -100
        tokens = int((labels[:, 1:] != -100).sum())
        if tokens:
            with torch.no_grad():
                total += float(model.double()(window, labels=labels).loss) * tokens
        count, known = count + tokens, end
        if end == len(ids):
            break
    return total, count


@pytest.mark.parametrize(("length", "stride"), [(16, 16), (16, 5), (16, 1), (64, 40)])
def test_perplexity_is_that_of_single_windows(
    causal_source: ModelSource, text: str, length: int, stride: int
) -> None:
    data = TextDataModule(
        test_text=text, source=causal_source, length=length, stride=stride, eval_batch_size=3
    )
    data.setup("test")
    model = hf.AutoModelForCausalLM.from_pretrained(causal_source.path).eval()
    evaluation = Perplexity()
    evaluation.bind(LanguageModeling())
    evaluation.try_out(model)
    with torch.no_grad():
        for batch in data.test_dataloader():
            evaluation.update(model, batch)
    ids = torch.tensor(causal_source.load_tokenizer()(TEXT, add_special_tokens=False)["input_ids"])
    ids = ids[: 64 * length]
    total, count = loop(model, ids, length, stride)
    found = evaluation.figures()
    assert float(found["loss"]) == pytest.approx(total / count, rel=1e-5)
    assert float(found["perplexity"]) == pytest.approx(math.exp(total / count), rel=1e-4)
    windows = data.windows["test"]
    assert sum(len(one.ids) - one.start for one in windows) == count
    assert count == len(ids) - 1 if stride < length else count < len(ids) - 1


def test_the_loss_of_windows_and_of_prompts(causal_source: ModelSource) -> None:
    model = hf.AutoModelForCausalLM.from_pretrained(causal_source.path).eval()
    windows = strided_windows(torch.arange(5, 45), 16, 8)
    batch = window_batch(windows, 0)
    with torch.no_grad():
        found = LanguageModeling().losses(model, batch, copies=2)
        assert torch.equal(found, AnswerLoss().losses(model, batch, copies=2))
        total, count = loop(model, torch.arange(5, 45), 16, 8)
    assert found.tolist() == pytest.approx([total / count] * 2, rel=1e-5)


def test_the_parts_of_a_text_do_not_overlap(causal_source: ModelSource, text: str) -> None:
    options: Any = {"validation_windows": 3, "test_windows": 4, "length": 20, "stride": 7}
    data = TextDataModule(text, source=causal_source, **options)
    data.setup()
    ids = causal_source.load_tokenizer()(TEXT, add_special_tokens=False)["input_ids"]
    train = torch.cat([one.ids for one in data.windows["train"]]).tolist()
    count = (len(ids) - 7 * 20) // 20
    assert train == ids[: 20 * count]
    begin = len(ids) - 7 * 20
    for split, size in (("validation", 3), ("test", 4)):
        part = strided_windows(torch.tensor(ids[begin : begin + 20 * size]), 20, 7)
        found = data.windows[split]
        assert [one.ids.tolist() for one in found] == [one.ids.tolist() for one in part]
        begin += 20 * size
    batch = next(iter(data.train_dataloader()))
    assert batch.input_ids.shape == (16, 20)
    assert batch.lengths.tolist() == [19] * 16


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"length": 65}, "length: got 65, the model reads at most 64 tokens"),
        ({"length": 1}, "length must be at least 2, got 1"),
        ({"stride": 0, "length": 8}, "stride: got 0, expected 1 to length=8"),
        ({"length": 60, "test_windows": 20}, "are needed; lower length"),
        ({"text": None}, "text: got none"),
        ({"text": "nowhere.txt"}, "text: there is no file"),
        ({"validation_windows": None}, "validation_windows: got null without validation_text"),
    ],
)
def test_what_is_refused(
    causal_source: ModelSource, text: str, options: dict[str, Any], sentence: str
) -> None:
    given = {"text": text, "length": 16, "validation_windows": 2, "test_windows": 2, **options}
    with pytest.raises(UserError, match=sentence):
        TextDataModule(source=causal_source, **given).setup()


def test_training_needs_a_text(causal_source: ModelSource, text: str) -> None:
    data = TextDataModule(test_text=text, source=causal_source, length=16)
    data.setup("test")
    with pytest.raises(UserError, match="which training needs"):
        data.train_dataloader()
