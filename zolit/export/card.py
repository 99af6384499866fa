"""README.md of an exported model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from zolit.export.pruned_card import pruned_card
from zolit.runs.differences import Changes

_TEXT = (
    "The loss of the prompts' own text, in nats a token, says whether the model still writes: the "
    "task was all that was tuned for, and other uses of the model may have suffered."
)


def model_card(
    config: dict[str, Any],
    summary: dict[str, Any],
    step: int,
    stored: str = "Weights are stored as plain floats.",
    library: str = "transformers",
    changes: Sequence[tuple[int, Changes]] = (),
) -> str:
    """The model card in the hub's format: what was tuned, by which method, and the figures.

    Args:
        config: of the run.
        summary: summary.json of the run; empty if it was not written.
        step: number of steps that the weights have made.
        stored: a sentence on the form of the weights.
        library: that loads the model.
        changes: options that were changed when the run was resumed, and after which step.
    """
    model, data = config["model"], (config.get("data") or {}).get("init_args") or {}
    if str(model.get("class_path")).rpartition(".")[2] == "PruningModule":
        return pruned_card(model, summary, stored)
    first = str(model.get("class_path")).rpartition(".")[2] == "FirstOrderModule"
    source = model["source"]
    task = data.get("task")
    facts = {
        "base model": source["gguf_file"] or _name(source["path"]),
        "weights while tuned": _part(model["quantizer"]),
        "adapter": _part(model.get("adapter")),
        "directions": _part(model.get("perturber")),
        "estimator": _part(model.get("estimator")),
        "optimizer": _part(model["optimizer"]),
        "learning-rate schedule": _part(model.get("lr_scheduler")),
        "tuned": ", ".join(model.get("tune") or ["adapter" if model.get("adapter") else "linear"]),
        "steps": step,
        "task": task if isinstance(task, str) else "own template" if task else None,
        "rows": _rows(data.get("rows")),
        "training rows": data.get("train_size"),
        "batch size": data.get("batch_size"),
        "seed of directions": None if first else model["seed"],
        "seed of rows": data.get("seed"),
        "peak memory (MB)": summary.get("peak_memory_mb"),
        "ms per step (median)": summary.get("step_ms_median"),
        "versions": ", ".join(f"{k} {v}" for k, v in (summary.get("versions") or {}).items()),
    }
    for since, changed in changes:
        if since < step:
            facts[f"changed after step {since}"] = _changed(changed)
    path = Path(source["path"])
    local = path.is_absolute() or path.exists() or "/" not in source["path"]
    hub = None if local else source["path"]
    head = ModelCardData(
        library_name=library,
        tags=["zolit"] if first else ["zolit", "zeroth-order"],
        base_model=hub if hub and not source["package"] else None,
    )
    how = "Fine-tuned by gradients" if first else "Fine-tuned with forward passes only"
    lines = ["---", head.to_yaml(), "---", "", f"# {how}", ""]
    lines += [f"Made by zolit. {stored}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value not in (None, "")]
    before, after = summary.get("zero_shot") or {}, summary.get("final") or {}
    if before or after:
        lines += ["", "| | zero-shot | fine-tuned |", "|---|---|---|"]
        for name in sorted({*before, *after}):
            figures = (_figure(one.get(name)) for one in (before, after))
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(figures)} |")
        if text := summary.get("text_loss"):
            figures = (_figure(text.get(name)) for name in ("zero_shot", "fine_tuned"))
            lines.append(f"| loss of the prompts' own text | {' | '.join(figures)} |")
            lines += ["", _TEXT]
    if text := summary.get("general_text"):
        figures = (_figure(text.get(name)) for name in ("zero_shot", "fine_tuned"))
        before, after = figures
        lines += [
            "",
            f"Perplexity of {_name(text['text'])}, which has nothing to do with the task: {before} "
            f"before, {after} after.",
        ]
    if moved := summary.get("weights_moved"):
        shares = (f"{name} {_share(one)}" for name, one in moved.items())
        lines += ["", f"The weights moved by these shares of their length: {', '.join(shares)}."]
    if found := summary.get("findings"):
        lines += ["", "What the run said of itself:", ""]
        lines += [f"- {sentence}" for sentence in found.values()]
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    """A figure as text; None stands for NaN and infinity."""
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    """A share in per cent; None stands for weights that were zero before."""
    return "from zero" if value is None else f"{100 * value:.2g} %"


def _changed(changes: Changes) -> str:
    pairs = ((key.replace(".init_args", ""), old, new) for key, (old, new) in changes.items())
    return ", ".join(f"{key} {_name(str(old))} -> {_name(str(new))}" for key, old, new in pairs)


def _part(value: Any) -> str | None:
    """A part of a configuration in a line: its class and its arguments."""
    if not isinstance(value, dict):
        return value if value is None else str(value)
    given = value.get("init_args") or {}
    options = ", ".join(
        f"{name} {_name(str(one))}" for name, one in given.items() if one is not None
    )
    name = str(value["class_path"]).rpartition(".")[2]
    return f"{name} ({options})" if options else name


def _rows(value: Any) -> str | None:
    """The source of the rows, without folders of this machine."""
    if not isinstance(value, dict):
        return None
    given = value.get("init_args") or {}
    named = [str(given[key]) for key in ("package", "path", "name", "split") if given.get(key)]
    return ", ".join(_name(one) for one in named) or None


def _name(path: str) -> str:
    """A hub name or relative path as it is; the last name of an absolute path."""
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path
