"""Ready tasks whose rows bring their own answers, by name.

The wording is MeZO's (Malladi et al. 2023, ``templates.py``): COPA goes on with `because` or `so`,
ReCoRD with the query in which the entity stands, as in GPT-3; ARC and PIQA ask.
"""

from zolit.datamodules.choices import ChoiceTask
from zolit.datamodules.own_answers import OwnAnswersTask
from zolit.datamodules.written import GenerationTask

QUESTION = "Question: {question}\nAnswer:"

OWN_TASKS: dict[str, OwnAnswersTask] = {
    "copa": ChoiceTask(
        "{premise|unpunctuated} {question}",
        options=["choice1", "choice2"],
        option="{option|midsentence}",
        values={"question": {"cause": "because", "effect": "so"}},
    ),
    "record": ChoiceTask(
        "{passage|highlights}\n-",
        options=["entities"],
        label="answers",
        label_as="text",
        option="{query}",
        placeholder="@placeholder",
    ),
    "piqa": ChoiceTask("Question: {goal}\nAnswer:", options=["sol1", "sol2"]),
    "arc": ChoiceTask(
        QUESTION, options=["text"], label="answerKey", label_as="name", names=["label"]
    ),
    "squad": GenerationTask(
        "Title: {title}\nContext: {context}\nQuestion: {question}\nAnswer:",
        max_new_tokens=50,
        label="text",
    ),
    "drop": GenerationTask(
        "Passage: {passage}\nQuestion: {question}\nAnswer:", max_new_tokens=50, label="answers"
    ),
    "gsm8k": GenerationTask(QUESTION, max_new_tokens=256, stop=["\n\n", "Question:"]),
}
