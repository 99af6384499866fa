import dataclasses
from typing import Any

import pytest
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from zolit.datamodules.encode import Encoder
from zolit.datamodules.limits import vocabulary_of
from zolit.datamodules.tasks import Task
from zolit.errors import UserError
from zolit.models.source import ModelSource

REVIEW = Task("Review: {text}\nSentiment:", {"0": "negative", "1": "positive"})
ROW = {"text": "film 3 is bright", "label": 1}


@pytest.fixture(scope="module")
def causal(causal_source: ModelSource) -> Any:
    return causal_source.load_tokenizer()


@pytest.fixture(scope="module")
def masked(masked_source: ModelSource) -> Any:
    return masked_source.load_tokenizer()


def word_level(words: list[str]) -> Any:
    vocab = {word: index for index, word in enumerate(["[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")  # noqa: S106


def test_causal_prompt_keeps_what_stands_in_front_and_nothing_after(causal: Any) -> None:
    encoder = Encoder(REVIEW, causal, "causal", limit=None)
    [example] = encoder.examples([ROW], [0], 1)
    assert causal.decode(example.ids) == "<s>Review: film 3 is bright\nSentiment:"
    assert example.label == 1
    assert example.mask is None


def test_answers_take_a_blank_except_after_a_line_end(causal: Any) -> None:
    answers = Encoder(REVIEW, causal, "causal", None).answers([ROW])
    assert [causal.decode(ids) for ids in answers] == [" negative", " positive"]
    task = Task("{text}?\n", {"0": "Yes", "1": "No"})
    answers = Encoder(task, causal, "causal", None).answers([ROW])
    assert [causal.decode(ids) for ids in answers] == ["Yes", "No"]


def test_answers_of_several_tokens(causal: Any) -> None:
    task = Task("{text} It was", {"0": "terrible", "1": "zebra-like"})
    one, several = Encoder(task, causal, "causal", None).answers([ROW])
    assert (len(one), causal.decode(several)) == (1, " zebra-like")
    assert len(several) > 1


def test_masked_prompt(masked: Any) -> None:
    encoder = Encoder(
        Task("{text} It was", {"0": "terrible", "1": "great"}), masked, "masked", None
    )
    [example] = encoder.examples([ROW], [0], 1)
    assert masked.decode(example.ids) == "<s>film 3 is bright It was <mask>.</s>"
    assert example.ids[example.mask] == masked.mask_token_id
    assert [masked.decode(ids) for ids in encoder.answers([ROW])] == [" terrible", " great"]


def test_long_prompts(causal: Any) -> None:
    row = {"text": "bright " * 30, "label": 0}
    length = len(Encoder(REVIEW, causal, "causal", None).examples([row], [7], 1)[0].ids)
    assert Encoder(REVIEW, causal, "causal", length + 1).examples([row], [7], 1)
    with pytest.raises(UserError, match=f"row 7 is {length + 1} tokens.*{length} fit.*truncate"):
        Encoder(REVIEW, causal, "causal", length).examples([row], [7], 1)
    [cut] = Encoder(REVIEW, causal, "causal", 12, truncate=True).examples([row], [7], 2)
    assert len(cut.ids) == 10
    assert causal.decode(cut.ids).startswith("<s>")
    assert causal.decode(cut.ids).endswith("\nSentiment:")
    with pytest.raises(UserError, match="no room"):
        Encoder(REVIEW, causal, "causal", 3, truncate=True).examples([row], [7], 2)


@pytest.mark.parametrize("template", ["{text} It was", "{mask}: {text}"])
def test_truncation_keeps_the_mask(masked: Any, template: str) -> None:
    task = Task(template, {"0": "terrible", "1": "great"})
    row = {"text": "bright " * 30, "label": 0}
    [cut] = Encoder(task, masked, "masked", 12, truncate=True).examples([row], [0], 1)
    assert len(cut.ids) == 12
    assert cut.ids[cut.mask] == masked.mask_token_id
    assert (cut.ids[0], cut.ids[-1]) == (masked.bos_token_id, masked.eos_token_id)


def test_messages(causal: Any, masked: Any) -> None:
    alike = Task("{text} was", {"0": "terrible", "1": "great"})
    encoder = Encoder(alike, word_level(["was"]), "causal", None)
    with pytest.raises(UserError, match=r"'terrible' and 'great' are the same token ids \[0\]"):
        encoder.answers([ROW])
    encoder = Encoder(Task("{text}", {"0": "great", "1": "zebra-like"}), masked, "masked", None)
    with pytest.raises(UserError, match=r"'zebra-like' is \d+ tokens"):
        encoder.answers([ROW])
    with pytest.raises(UserError, match="no mask token"):
        Encoder(REVIEW, causal, "masked", None)
    encoder = Encoder(REVIEW, masked, "masked", None)
    with pytest.raises(UserError, match="row 5 holds 2 mask tokens"):
        encoder.examples([{"text": "a <mask>", "label": 0}], [5], 1)
    encoder = Encoder(dataclasses.replace(REVIEW, template="{text}"), causal, "causal", None)
    with pytest.raises(UserError, match="row 5 has no tokens"):
        encoder.examples([{"text": "", "label": 0}], [5], 1)


class MergingTokenizer:
    """Writes a colon and the blank after it as one token."""

    def __call__(self, texts: Any, **options: Any) -> dict[str, list]:
        if isinstance(texts, str):
            return {"input_ids": [ord(one) for one in texts]}
        return {"input_ids": [[ord(one) for one in text.replace(": ", "#")] for text in texts]}


def test_prompt_that_merges_with_the_answer_is_refused() -> None:
    encoder = Encoder(REVIEW, MergingTokenizer(), "causal", None)
    with pytest.raises(UserError, match="merges the end of the prompt"):
        encoder.answers([ROW])


def test_ends_that_differ_from_the_first_rows(causal: Any) -> None:
    encoder = Encoder(Task("{text}", {"0": "terrible", "1": "great"}), causal, "causal", None)
    encoder.answers([{"text": "a film"}])
    with pytest.raises(UserError, match=r"row 9 ends 'a film.n'.*end the template in fixed text"):
        encoder.examples([{"text": "a film\n", "label": 0}], [9], 1)


def test_tokens_beyond_the_embedding(causal_source: ModelSource) -> None:
    tokenizer = causal_source.load_tokenizer()
    config = causal_source.load_config()
    known = vocabulary_of(config)
    assert known == len(tokenizer)
    tokenizer.add_tokens(["<new>"])
    encoder = Encoder(REVIEW, tokenizer, "causal", None, vocabulary=known)
    assert len(encoder.examples([ROW], [0], 1)) == 1
    with pytest.raises(UserError, match=rf"row 3 holds the token '<new>' \(id {known}\)"):
        encoder.examples([{"text": "a <new> film", "label": 0}], [3], 1)
    task = dataclasses.replace(REVIEW, words={"0": "<new>", "1": "great"})
    with pytest.raises(UserError, match=r"task\.words: the word '<new>' holds the token"):
        Encoder(task, tokenizer, "causal", None, vocabulary=known).answers([ROW])
