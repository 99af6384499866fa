"""A fine-tuned model as a folder that transformers loads."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from zolit.errors import UserError
from zolit.tensors.weight import PerturbedWeight


def to_plain(model: nn.Module) -> None:
    """Replace every stored weight by the floats that it reads as, in place; ties stay ties."""
    plain: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if isinstance(parameter, PerturbedWeight):
                if id(parameter) not in plain:
                    with torch.no_grad():
                        plain[id(parameter)] = nn.Parameter(parameter.dense(), False)
                module._parameters[name] = plain[id(parameter)]


def save_plain(model: Any, tokenizer: Any, card: str, to: Path) -> None:
    """Write weights as safetensors, configuration, tokenizer and model card.

    Args:
        model: a transformers model; its stored weights are replaced by floats.
        tokenizer: of transformers.
        card: text of README.md.
        to: a folder that is new or empty.

    Raises:
        UserError: if the folder holds something or cannot be written.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(f"--to: got {str(to)!r}, which is not empty; name a new folder")
    to_plain(model)
    try:
        to.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(to)
        tokenizer.save_pretrained(to)
        (to / "README.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"--to: {str(to)!r} cannot be written ({error.strerror or error}); name another folder"
        ) from error


def model_card(config: dict[str, Any], summary: dict[str, Any], step: int) -> str:
    """README.md of an exported model, in the hub's format.

    Args:
        config: of the run.
        summary: summary.json of the run; empty if it was not written.
        step: steps that the weights have behind them.
    """
    model, data = config["model"], config["data"]["init_args"]
    source = model["source"]
    task = data.get("task")
    facts = {
        "base model": source["gguf_file"] or source["path"],
        "weights while tuned": _part(model["quantizer"]),
        "directions": _part(model["perturber"]),
        "optimizer": _part(model["optimizer"]),
        "steps": step,
        "seed": model["seed"],
        "task": task if isinstance(task, str) else "own template" if task else None,
        "training rows": data.get("train_size"),
        "peak memory (MB)": summary.get("peak_memory_mb"),
        "versions": ", ".join(f"{k} {v}" for k, v in (summary.get("versions") or {}).items()),
    }
    hub = source["path"] if "/" in source["path"] and not Path(source["path"]).exists() else None
    lines = ["---", "library_name: transformers", "tags: [zolit, zeroth-order]"]
    lines += [f"base_model: {hub}"] if hub and not source["package"] else []
    lines += ["---", "", "# Fine-tuned with forward passes only", ""]
    lines += ["Made by zolit. Weights are stored as plain floats.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value not in (None, "")]
    before, after = summary.get("zero_shot") or {}, summary.get("final") or {}
    if before or after:
        lines += ["", "| | zero-shot | fine-tuned |", "|---|---|---|"]
        for name in sorted({*before, *after}):
            figures = (f"{one[name]:.4f}" if name in one else "-" for one in (before, after))
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


def _part(value: Any) -> str:
    """A part of a configuration in a line: its class and what it was given."""
    if not isinstance(value, dict):
        return str(value)
    given = value.get("init_args") or {}
    options = ", ".join(f"{name} {one}" for name, one in given.items() if one is not None)
    name = str(value["class_path"]).rpartition(".")[2]
    return f"{name} ({options})" if options else name
