"""Chat messages in a prompt, compared with what transformers makes of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers as hf

from zolit.datamodules import ChoiceTask, PromptDataModule
from zolit.datamodules.chat import ChatTemplate
from zolit.datamodules.encode import Encoder
from zolit.datamodules.rows import FileRows
from zolit.datamodules.tasks import Task
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives import OptionScoring

# As the templates of Llama 2 and 3 do, it writes the start token itself.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' and loop.index0 % 2 %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}[{{ m.role }}]{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]\n{% endif %}"
)
MESSAGES = [{"role": "user", "content": "is the film bright ?"}]
WORDS = {"0": "negative", "1": "positive"}


@pytest.fixture
def tokenizer(causal_source: ModelSource) -> Any:
    found = causal_source.load_tokenizer()
    found.chat_template = TEMPLATE
    return found


def ids_of(template: str, value: Any, tokenizer: Any) -> list[int]:
    encoder = Encoder(Task(template, WORDS), tokenizer, "causal", None)
    row = {"messages": value, "label": 1}
    encoder.answers([row], [4])
    [example] = encoder.examples([row], [4], 1)
    return example.ids


def test_the_answer_is_the_assistants(tokenizer: Any) -> None:
    expected = tokenizer.apply_chat_template(
        MESSAGES, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    # One start token, though both the tokenizer and its template write it.
    assert ids_of("{messages}", MESSAGES, tokenizer) == expected
    assert expected.count(tokenizer.bos_token_id) == 1


def test_a_conversation_within_a_prompt(tokenizer: Any) -> None:
    ids = ids_of("Read: {messages}Sentiment:", MESSAGES, tokenizer)
    assert tokenizer.decode(ids) == "<s>Read: [user]is the film bright ?\nSentiment:"


def test_parquet_gives_the_same(tokenizer: Any, tmp_path: Path) -> None:
    # Parquet gives every message the fields of all.
    messages = [[*MESSAGES, {"role": "assistant", "content": "no", "name": "x"}]] * 2
    pd.DataFrame({"messages": messages, "label": [0, 1]}).to_parquet(tmp_path / "rows.parquet")
    value = FileRows(str(tmp_path / "rows.parquet")).read()["messages"][0]
    assert ids_of("{messages}", value, tokenizer) == ids_of("{messages}", messages[0], tokenizer)


def test_no_start_token_from_the_tokenizer(tokenizer: Any) -> None:
    assert ChatTemplate(tokenizer, starts=False).text(MESSAGES, False).startswith("<s>[user]")
    assert ChatTemplate(tokenizer, starts=True).text(MESSAGES, False).startswith("[user]")


@pytest.mark.parametrize(
    ("template", "messages", "words"),
    [
        ("{messages}", [*MESSAGES, *MESSAGES], ["row 4", "refuses", "alternate"]),
        ("{messages}", [{"from": "human", "value": "a"}], ["row 4", "role and content"]),
        ("{messages}", [{"role": "user", "content": ["a"]}], ["role and content"]),
        ("{messages|lower}", MESSAGES, ["row 4", "leave |lower out"]),
    ],
)
def test_messages(tokenizer: Any, template: str, messages: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        ids_of(template, messages, tokenizer)
    for word in words:
        assert word in str(caught.value)


def test_no_chat_template(causal_source: ModelSource) -> None:
    with pytest.raises(UserError, match=r"'messages' of row 4 .* no chat template"):
        ids_of("{messages}\nMood:", MESSAGES, causal_source.load_tokenizer())


OPENED = {
    "line end": "[assistant]\n",
    "blank": "[assistant] ",  # as in Llama 2's template
    "nothing": "[assistant]",  # as in Command R's
}


def opening(how: str) -> str:
    """A template that writes this before what the assistant says."""
    said = f"{{% if m.role == 'assistant' %}}{OPENED[how]}{{{{ m.content }}}}\n{{% else %}}"
    user = "[{{ m.role }}]{{ m.content }}\n{% endif %}"
    end = f"{{% if add_generation_prompt %}}{OPENED[how].rstrip(' ')}{{% endif %}}"
    return f"{{{{ bos_token }}}}{{% for m in messages %}}{said}{user}{{% endfor %}}{end}"


def by_hand(model: Any, tokenizer: Any, answers: list[str]) -> list[float]:
    """Mean log-probability of each answer's tokens, by transformers alone, in float64.

    What the assistant says is where the template writes it; a blank before it belongs to its first
    token.
    """
    text = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, tokenize=False)
    start = tokenizer(text, add_special_tokens=False)["input_ids"]
    found = []
    for answer in answers:
        said = {"role": "assistant", "content": answer}
        whole = tokenizer.apply_chat_template([*MESSAGES, said], tokenize=False)
        whole = whole[: whole.rindex(answer) + len(answer)]
        assert whole.startswith(text)
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            chances = model.double()(ids).logits[0, :-1].log_softmax(-1)
        each = chances.gather(1, ids[0, 1:, None])[len(start) - 1 :]
        assert each.numel() == ids.shape[1] - len(start)
        found.append(float(each.mean()))
    return found


@pytest.mark.parametrize(
    "answers", [["negative", "positive"], ["dull and long", "bright"]], ids=["one", "several"]
)
@pytest.mark.parametrize("own", [False, True], ids=["words", "options"])
@pytest.mark.parametrize("how", OPENED)
def test_answers_agree_with_an_independent_scorer(
    tokenizer: Any,
    causal_source: ModelSource,
    tmp_path: Path,
    answers: list[str],
    own: bool,
    how: str,
) -> None:
    folder = tmp_path / "model"
    tokenizer.chat_template = opening(how)
    shutil.copytree(causal_source.path, folder)
    tokenizer.save_pretrained(folder)
    rows = [
        {"messages": MESSAGES, "n": n, "label": n % 2, "a": answers[0], "b": answers[1]}
        for n in range(9)
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = Task("chat", dict(enumerate(answers)))  # type: ignore[arg-type]
    task = ChoiceTask("chat", ["a", "b"]) if own else words
    data = PromptDataModule(task, FileRows(str(file)), ModelSource(str(folder)))
    data.predict_on(FileRows(str(file)))
    data.setup("predict")
    model = hf.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        [batch] = data.predict_dataloader()
        scores = OptionScoring().scores(model, batch)
    wanted = torch.tensor(by_hand(model, tokenizer, answers), dtype=torch.float64)
    if not own and all(len(ids) == 1 for ids in data.collate.answers):
        # Logits, which differ from log-probabilities by each row's normalizer.
        scores, wanted = scores.log_softmax(1), wanted.log_softmax(0)
    torch.testing.assert_close(scores[0].double(), wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(scores, scores[:1].expand_as(scores))
    assert wanted.std() > 1e-4


@pytest.mark.parametrize(("how", "between"), [("line end", ""), ("blank", " "), ("nothing", "")])
def test_what_a_template_writes_before_an_answer(tokenizer: Any, how: str, between: str) -> None:
    tokenizer.chat_template = opening(how)
    assert ChatTemplate(tokenizer, starts=True).before_answer(MESSAGES) == between


def test_a_template_that_writes_more_before_an_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = opening("nothing").replace(
        "{{ m.content }}", "<think>{{ m.content }}"
    )
    assert ChatTemplate(tokenizer, starts=True).before_answer(MESSAGES) is None
    # The template refuses an answer behind these messages.
    tokenizer.chat_template = TEMPLATE.replace("'user' and", "'assistant' and")
    assert ChatTemplate(tokenizer, starts=True).before_answer(MESSAGES) is None


def test_the_template_chat_is_the_column_of_messages(tokenizer: Any) -> None:
    assert ids_of("chat", MESSAGES, tokenizer) == ids_of("{messages}", MESSAGES, tokenizer)
