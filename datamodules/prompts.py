"""Ready tasks, by name.

The wording is MeZO's (Malladi et al. 2023, ``templates.py``). Templates with ``{mask}`` are
LM-BFF's, which MeZO uses with RoBERTa. Labels are listed both as the public files spell them and as
the hub numbers them. TREC is numbered as in LM-BFF's files (0..5 = DESC ENTY ABBR HUM LOC NUM). The
hub numbers it otherwise, so read it there with ``label_names``.
"""

from zolit.datamodules.own_answers import OwnAnswersTask
from zolit.datamodules.own_prompts import OWN_TASKS
from zolit.datamodules.tasks import Task
from zolit.errors import UserError, nearest

SENTIMENT = {"0": "terrible", "1": "great"}
REVIEW = "Review: {text}\nSentiment:"
ENTAILMENT_3 = {
    "entailment": "Yes",
    "neutral": "Maybe",
    "contradiction": "No",
    "0": "Yes",
    "1": "Maybe",
    "2": "No",
}
NO_YES = {"false": "No", "true": "Yes", "0": "No", "1": "Yes"}
YES_NO = {"entailment": "Yes", "not_entailment": "No", "0": "Yes", "1": "No"}
INFER_3 = 'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n'
PAIR_MASKED = "{premise|unpunctuated}? {mask}, {hypothesis|uncapital}"

TASKS: dict[str, Task] = {
    "sst2": Task("{text} It was", SENTIMENT),
    "sst2_review": Task(REVIEW, {"0": "negative", "1": "positive"}),
    "rotten_tomatoes": Task(
        REVIEW,
        {"rotten": "negative", "fresh": "positive", "0": "negative", "1": "positive"},
        label="category",
        ignore=["plot"],
    ),
    "sst5": Task(
        "{text} It was",
        {"0": "terrible", "1": "bad", "2": "okay", "3": "good", "4": "great"},
    ),
    "trec": Task(
        "{text} It was about",
        {
            "DESC": "description",
            "ENTY": "entity",
            "ABBR": "abbreviation",
            "HUM": "human",
            "LOC": "location",
            "NUM": "number",
            "0": "description",
            "1": "entity",
            "2": "abbreviation",
            "3": "human",
            "4": "location",
            "5": "number",
        },
    ),
    "trec_masked": Task(
        "{mask}: {text}",
        {
            "DESC": "Description",
            "ENTY": "Entity",
            "ABBR": "Expression",
            "HUM": "Human",
            "LOC": "Location",
            "NUM": "Number",
            "0": "Description",
            "1": "Entity",
            "2": "Expression",
            "3": "Human",
            "4": "Location",
            "5": "Number",
        },
    ),
    "rte": Task(
        '{premise}\nDoes this mean that "{hypothesis}" is true? Yes or No?\n',
        YES_NO,
    ),
    "rte_masked": Task(PAIR_MASKED, YES_NO),
    "cb": Task(
        INFER_3,
        {
            "entailment": "Yes",
            "contradiction": "No",
            "neutral": "Maybe",
            "0": "Yes",
            "1": "No",
            "2": "Maybe",
        },
    ),
    "snli": Task(INFER_3, ENTAILMENT_3, ignore=["-1"]),
    "snli_masked": Task(PAIR_MASKED, ENTAILMENT_3, ignore=["-1"]),
    "boolq": Task("{passage} {question|capital|question}", NO_YES),
    "wic": Task(
        'Does the word "{word}" have the same meaning in these two sentences? Yes, No?\n'
        "{sentence1}\n{sentence2}\n",
        NO_YES,
    ),
    "wsc": Task(
        '{text}\nIn the previous sentence, does the pronoun "{span2_text|lower}" refer to '
        "{span1_text}? Yes or No?\n",
        NO_YES,
    ),
    "multirc": Task(
        '{paragraph}\nQuestion: {question}\nI found this answer "{answer}". Is that correct? '
        "Yes or No?\n",
        NO_YES,
    ),
}


def task_named(name: str) -> Task | OwnAnswersTask:
    """A ready task.

    Raises:
        UserError: there is none of that name.
    """
    ready: dict[str, Task | OwnAnswersTask] = {**TASKS, **OWN_TASKS}
    if name not in ready:
        raise UserError(
            f"task: there is no ready task {name!r}; nearest names: {nearest(name, ready)}; or "
            "describe your own with template and words, or with template and options."
        )
    return ready[name]
