"""A configuration as values by dotted key, and the names that users know these keys by."""

from typing import Any


def flatten(content: Any, prefix: str = "") -> dict[str, Any]:
    """Values of a configuration by dotted key; lists and empty groups are values.

    Example:
        >>> flatten({"trainer": {"max_steps": 3}, "resume": None})
        {'trainer.max_steps': 3, 'resume': None}
    """
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        found.update(flatten(value, f"{prefix}.{name}" if prefix else str(name)))
    return found


def public_name(key: str) -> str:
    """A key as it is written on the command line.

    Example:
        >>> public_name("model.optimizer.init_args.lr"), public_name("model.quantizer.class_path")
        ('model.optimizer.lr', 'model.quantizer')
    """
    short = key.replace(".init_args.", ".").removesuffix(".class_path")
    return short.removesuffix(".init_args")
