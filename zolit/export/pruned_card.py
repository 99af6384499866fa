"""README.md of a pruned model."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData


def pruned_card(model: dict[str, Any], summary: dict[str, Any], stored: str) -> str:
    """The model card in the hub's format: what was pruned, by which method, on which text.

    Args:
        model: the group ``model`` of the run's configuration.
        summary: summary.json of the run; empty if it was not written.
        stored: a sentence on the form of the weights.
    """
    source, text = model["source"], model.get("calibration") or {}
    blocks = summary.get("blocks") or []
    worst = max((one["output_error"] or 0.0 for one in blocks), default=None)
    zeros = summary.get("zeros")
    facts = {
        "base model": source.get("gguf_file") or _last(source["path"]),
        "pruner": summary.get("pruner") or _part(model.get("pruner")),
        "pattern": summary.get("pattern") or _part(model.get("pattern")),
        "reconstruction": summary.get("reconstruction") or _part(model.get("reconstruction")),
        "linear weights that are zero": None if zeros is None else f"{100 * zeros:.2f} %",
        "calibration text": _last(text["text"]) if text.get("text") else None,
        "windows": text.get("samples"),
        "tokens of a window": text.get("length"),
        "seed of windows": text.get("seed"),
        "largest output error of a block": None if worst is None else f"{worst:.4f}",
        "seconds": summary.get("seconds"),
        "peak memory (MB)": summary.get("peak_memory_mb"),
        "versions": ", ".join(f"{k} {v}" for k, v in (summary.get("versions") or {}).items()),
    }
    path = Path(source["path"])
    local = path.is_absolute() or path.exists() or "/" not in source["path"]
    hub = None if local or source.get("package") else source["path"]
    head = ModelCardData(library_name="transformers", tags=["zolit", "pruned"], base_model=hub)
    lines = ["---", head.to_yaml(), "---", "", "# Pruned", ""]
    lines += [f"Made by zolit. {stored}", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items() if value not in (None, "")]
    before, after = summary.get("zero_shot") or {}, summary.get("final") or {}
    if before or after:
        lines += ["", "| | dense | pruned |", "|---|---|---|"]
        for name in sorted({*before, *after}):
            each = (_figure(one.get(name)) for one in (before, after))
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(each)} |")
    return "\n".join(lines) + "\n"


def _figure(value: float | None) -> str:
    """A figure as text; None stands for NaN and infinity."""
    return "-" if value is None else f"{value:.4f}"


def _last(path: str) -> str:
    """A hub name or relative path as it is; the last name of an absolute path."""
    return Path(path).name if Path(path).is_absolute() or path.startswith("~") else path


def _part(value: Any) -> str | None:
    return value.get("class_path") if isinstance(value, dict) else value
