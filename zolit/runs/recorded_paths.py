"""Makes paths in a run's configuration absolute, so that the run can be used from any folder."""

import os
from pathlib import Path
from typing import Any

import yaml

_READERS: dict[str, tuple[str, ...]] = {
    "BenchmarkRows": ("path",),
    "FileRows": ("path",),
    "HubRows": ("name",),
    "DominantBlock": ("text",),
    "GPTQ": ("text",),
    "Sensitive": ("file",),
    "FromFile": ("file",),
    "Pruned": ("file",),
    "SqueezeLLM": ("saliency",),
    "TextDataModule": ("text", "validation_text", "test_text"),
}
"""Classes of rows, texts, masks and quantizers, and their arguments that may be paths."""

_INSTEAD = {"DominantBlock": "block"}
"""The argument that a class takes in place of the file; the file is not read where it is given."""


def text_with_absolute_paths(text: str) -> str:
    """The YAML of a command as it is kept with the run: see `with_absolute_paths`."""
    before = yaml.safe_load(text)
    after = with_absolute_paths(before)
    if after == before:
        return text
    head = [line for line in text.splitlines(keepends=True) if line.startswith("#")]
    body = yaml.safe_dump(after, default_flow_style=False, sort_keys=False, allow_unicode=True)
    return "".join([*head, body])


def with_absolute_paths(config: Any) -> Any:
    """A configuration in which relative paths of existing files and folders are absolute.

    These are the paths of the model, of files that zolit's own rows, masks and quantizers read, and
    of checkpoints to start from. Hub names and paths inside pip packages stay as they are.

    Args:
        config: nested dicts and lists, as YAML has them.
    """
    if isinstance(config, list):
        return [with_absolute_paths(one) for one in config]
    if not isinstance(config, dict):
        return config
    found = {name: with_absolute_paths(value) for name, value in config.items()}
    for group, argument in (("source", "path"), ("saliency", "text"), ("calibration", "text")):
        if isinstance(found.get(group), dict):
            _write_out(found[group], argument)
    if isinstance(found.get("init_args"), dict):
        for name in _paths_of(found):
            _write_out(found["init_args"], name)
    for name in ("start_from", "ckpt_path"):
        if isinstance(found.get(name), list):
            found[name] = [_absolute(one) for one in found[name]]
        elif name in found:
            found[name] = _absolute(found[name])
    return found


def absolute_option(name: str, value: str) -> str:
    """The value of an option of the command line: a relative path of an existing file absolute.

    Args:
        name: of the option, such as ``--model.source.path``.
        value: as it is written.
    """
    leaf = name.rpartition(".")[2]
    paths = {"start_from", "path", *(one for some in _READERS.values() for one in some)}
    return str(_absolute(value)) if leaf in paths or name == "--ckpt_path" else value


def files_of_parts(config: Any) -> list[str]:
    """The files that the parts of a configuration read, as they are named there.

    Args:
        config: nested dicts, as YAML has them; of ``model``, for masks and quantizers alone.

    Example:
        >>> mask = {"class_path": "zolit.FromFile", "init_args": {"file": "mask.safetensors"}}
        >>> files_of_parts({"mask": mask})
        ['mask.safetensors']
    """
    if not isinstance(config, dict):
        return []
    found = [name for value in config.values() for name in files_of_parts(value)]
    name, given = str(config.get("class_path")).rpartition(".")[2], config.get("init_args")
    if not isinstance(given, dict) or given.get(_INSTEAD.get(name, "")) is not None:
        return found
    return [*found, *(str(given[path]) for path in _paths_of(config) if given.get(path))]


def _paths_of(part: dict[str, Any]) -> tuple[str, ...]:
    """The arguments of a part that may be paths."""
    return _READERS.get(str(part.get("class_path")).rpartition(".")[2], ())


def _write_out(group: dict[str, Any], name: str) -> None:
    if name in group and not group.get("package"):
        group[name] = _absolute(group[name])


def _absolute(path: Any) -> Any:
    if not isinstance(path, str) or path in ("", "best", "last"):
        return path
    if not Path(path).expanduser().exists():
        return path
    return os.path.abspath(Path(path).expanduser())
