"""Figures of a zolit model on tasks of lm-evaluation-harness."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lm_eval
from jinja2 import TemplateError
from lm_eval.tasks import TaskManager

from zolit.errors import UserError, first_line, nearest
from zolit.harness.model import HarnessModel

BOOTSTRAPS = 1000
"""Draws for the standard error of a figure that is no mean over rows; a mean needs none."""

KEPT = ("results", "groups", "versions", "n-shot", "n-samples", "higher_is_better")
"""What is handed on of the harness's results; the rest describes the machine."""


@dataclass(frozen=True)
class Figure:
    """One figure of a task.

    Attributes:
        task: name of the task or of a group of them.
        shots: examples before each row; None of a group.
        rows: how many were measured; None of a group.
        metric: name of the figure, with the harness's filter if it has one.
        value: of the figure.
        error: its standard error; None where the harness has none.
    """

    task: str
    shots: int | None
    rows: int | None
    metric: str
    value: float
    error: float | None


def evaluate_model(
    model: HarnessModel,
    tasks: Sequence[str],
    include: str | Path | None = None,
    shots: int | None = None,
    limit: int | None = None,
    chat: bool = False,
) -> dict[str, Any]:
    """Run tasks of the harness on a model.

    The harness sets the seeds of the global generators of Python, NumPy and torch, as its own
    command does, so that tasks that draw examples draw the same ones.

    Args:
        model: to measure.
        tasks: names of tasks or groups, or YAML files of tasks.
        include: folder of further tasks; their YAML may name Python code, which is run.
        shots: examples before each row; None for as many as each task says, mostly none.
        limit: first rows of each task; None for all.
        chat: whether rows go through the tokenizer's chat template.

    Returns:
        The harness's results under ``KEPT``, and the settings under ``config``.

    Raises:
        UserError: there is no such task, it cannot be loaded, or an argument is out of range.
    """
    for name, value, least in (("num_fewshot", shots, 0), ("limit", limit, 1)):
        if value is not None and value < least:
            raise UserError(f"{name}: got {value}, at least {least} is expected; leave it out")
    manager, specs = _load(tasks, include)
    try:
        found = lm_eval.simple_evaluate(
            model=model,
            tasks=specs,
            num_fewshot=shots,
            limit=limit,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            log_samples=False,
            bootstrap_iters=BOOTSTRAPS,
            task_manager=manager,
        )
    except TemplateError as error:
        raise _unfit(error) from error
    settings = {
        "weights": model.read_from,
        "batch_size": model.batch_size,
        "max_length": model.max_length,
        "limit": limit,
        "chat": chat,
        "lm_eval": lm_eval.__version__,
    }
    return {**{name: found[name] for name in KEPT if name in found}, "config": settings}


def figures(results: dict[str, Any]) -> list[Figure]:
    """The figures of `evaluate_model`, in the order of the tasks; groups stand last.

    Example:
        >>> figures({"results": {"piqa": {"acc,none": 0.5, "acc_stderr,none": 0.1, "alias": "x"}}})
        [Figure(task='piqa', shots=None, rows=None, metric='acc', value=0.5, error=0.1)]
    """
    found = []
    shots, rows = results.get("n-shot", {}), results.get("n-samples", {})
    for task, each in {**results["results"], **results.get("groups", {})}.items():
        for key, value in each.items():
            metric, _, kind = key.partition(",")
            if not kind or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = each.get(f"{metric}_stderr,{kind}")
            found.append(
                Figure(
                    task,
                    shots.get(task),
                    rows.get(task, {}).get("effective"),
                    metric if kind == "none" else f"{metric} ({kind})",
                    float(value),
                    float(error) if isinstance(error, int | float) else None,
                )
            )
    return found


def _unfit(error: TemplateError) -> UserError:
    return UserError(
        f"tasks: a template does not fit the rows ({first_line(error)}); correct the task's "
        "doc_to_text, doc_to_choice or doc_to_target"
    )


def _load(tasks: Sequence[str], include: str | Path | None) -> tuple[TaskManager, list[Any]]:
    """The tasks and groups themselves, with their rows."""
    if not tasks:
        raise UserError("tasks: got none; name a task, such as piqa")
    if include is not None and not Path(include).is_dir():
        raise UserError(
            f"include: there is no folder {str(Path(include).absolute())!r}; name the folder of "
            "the tasks' YAML files"
        )
    own = None if include is None else str(include)
    manager = TaskManager(include_path=own, include_defaults=False)
    if not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=own)  # reads thousands of files
    for task in tasks:
        if task in manager.all_tasks or Path(task).is_file():
            continue
        raise UserError(
            f"tasks: there is no {task!r}; nearest: {nearest(task, manager.all_tasks)[:200]}; "
            "a folder of your own is named by include"
        )
    try:
        loaded = manager.load(list(tasks))
    except TemplateError as error:  # the first row is filled in at once
        raise _unfit(error) from error
    # Reading rows runs code of several libraries and of the task itself, which may raise anything.
    except Exception as error:
        raise UserError(
            f"tasks: {', '.join(tasks)} cannot be loaded ({type(error).__name__}: "
            f"{first_line(error)}); check dataset_path and dataset_kwargs of the task, and the "
            "network if the rows lie on the hub"
        ) from error
    inner = {name for names in loaded["group_map"].values() for name in names}
    every = {**loaded["groups"], **loaded["tasks"]}
    return manager, [one for name, one in every.items() if name not in inner]
