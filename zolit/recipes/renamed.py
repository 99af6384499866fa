"""Arguments that earlier versions called otherwise, so that their recipes and journals are read."""

from typing import Any

_NOW = {("RandomMask", "density"): "fraction"}
"""By class and earlier name of an argument: its name now."""


def with_new_names(content: Any) -> Any:
    """A configuration with the arguments of its classes as they are called now.

    Args:
        content: as read. What needs no other name is handed back as it is.

    Example:
        >>> with_new_names({"class_path": "zolit.RandomMask", "init_args": {"density": 0.5}})
        {'class_path': 'zolit.RandomMask', 'init_args': {'fraction': 0.5}}
    """
    if isinstance(content, list):
        listed = [with_new_names(one) for one in content]
        return content if listed == content else listed
    if not isinstance(content, dict):
        return content
    found = {name: with_new_names(value) for name, value in content.items()}
    given = found.get("init_args")
    if isinstance(given, dict):
        cls = str(found.get("class_path")).rpartition(".")[2]
        found["init_args"] = {_new(cls, name, given): value for name, value in given.items()}
    return content if found == content else found


def _new(cls: str, name: Any, given: dict[Any, Any]) -> Any:
    """The name of an argument now; one that stands beside it keeps its name, to be refused."""
    new = _NOW.get((cls, name), name)
    return name if new in given else new
