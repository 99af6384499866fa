"""Reads the arguments and configuration files that the user gave, before any library is loaded."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from zolit.commands.help import COMMANDS
from zolit.errors import UserError, nearest_names
from zolit.recipes.guard import check_yaml
from zolit.recipes.renamed import with_new_names

_FORM = "expected `group: {option: value}` in YAML"
_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Encodings other than UTF-8, by the bytes with which their texts begin."""


class Given:
    """What the user wrote, by dotted key: configuration files, then options; later ones win.

    Args:
        args: the arguments after the subcommand.

    Attributes:
        values: by dotted key; those of options are texts.
        configs: the configuration files, in their order.
        options: the keys that are options of the command line.

    Raises:
        UserError: a configuration cannot be read or is no YAML.
    """

    def __init__(self, args: list[str]) -> None:
        self.values: dict[str, Any] = {}
        self.configs: list[str] = []
        self.options: set[str] = set()
        position = 0
        while position < len(args):
            name, equals, value = args[position].partition("=")
            if not equals and position + 1 < len(args):
                value = args[position + 1]
                position += not value.startswith("--")
            position += 1
            if name in ("-c", "--config"):
                self.configs.append(value)
                self._flatten("", read_config(value))
            elif name.startswith("--"):
                self.values[name.removeprefix("--")] = value
                self.options.add(name.removeprefix("--"))

    def _flatten(self, prefix: str, content: Any) -> None:
        if isinstance(content, dict):
            items: Iterable[tuple[Any, Any]] = content.items()
        elif isinstance(content, list) and prefix:
            items = enumerate(content)
        else:
            self.values[prefix] = content
            return
        for name, value in items:
            self._flatten(f"{prefix}.{name}" if prefix else str(name), value)

    def value(self, key: str) -> Any:
        """The value of a key, texts of the command line read as YAML; None if it is not given."""
        value = self.values.get(key)
        if key in self.options and isinstance(value, str):
            try:
                return yaml.safe_load(value)
            except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):
                return value
        return value

    def key_ending(self, leaf: str, within: str = "") -> str:
        """The last given key that ends in ``leaf``, among the keys below the option ``within``.

        If none does, the key that ``leaf`` would have directly below ``within``.
        """
        found = [
            key
            for key in self.values
            if f".{key}".endswith(f".{leaf}")
            and f"{key}.".startswith(f"{within}." if within else "")
        ]
        return found[-1] if found else ".".join(filter(None, (within, leaf)))

    def class_above(self, key: str) -> str | None:
        """Name of the class that takes the argument ``key``, as the user wrote it."""
        parent = key.rpartition(".")[0].replace(".init_args", "")
        plain = {name.replace(".init_args", ""): value for name, value in self.values.items()}
        for name in (f"{parent}.class_path", parent):
            if isinstance(value := plain.get(name), str):
                return value.rpartition(".")[2]
        return None

    def run_dir(self, command: str) -> str:
        """Folder of the run: the given one, else ``runs/`` with the name of the last
        configuration."""
        given = self.values.get("run.run_dir")
        if isinstance(given, str):
            return given
        return str(Path("runs") / (Path(self.configs[-1]).stem if self.configs else command))


def checkpoint_path(given: Given, command: str, path: str, run_dir: str) -> str:
    """The file that ``ckpt_path`` names; ``best`` and ``last`` are those of the run's folder.

    Args:
        given: what the user wrote; the folder of its configuration may be the run's.
        command: the command that takes the file.
        path: the value of ``ckpt_path``.
        run_dir: folder of the run by its own option.

    Raises:
        UserError: if there is no such file.
    """
    file = Path(path)
    if path in ("best", "last"):
        if command == "fit":
            raise UserError(
                f"ckpt_path: got {path!r}, expected the file of a checkpoint to start from, such "
                "as runs/first/checkpoints/best.ckpt; to go on with a run: zolit fit --resume RUN"
            )
        beside = [Path(one).parent for one in given.configs]
        runs = [one for one in beside if (one / "checkpoints").is_dir()] or [Path(run_dir)]
        file = runs[-1] / "checkpoints" / f"{path}.ckpt"
    if file.is_file():
        return str(file)
    last = file.with_name("last.ckpt")
    if file.name == "best.ckpt" and last.is_file():
        raise UserError(
            f"ckpt_path: there is no {str(file)!r}, as the run made no validation to choose the "
            f"best by; use {str(last)!r}, or fit with trainer.val_check_interval"
        )
    raise UserError(f"ckpt_path: got {path!r}, expected a checkpoint file of a run.")


def read_config(path: str) -> dict[str, Any]:
    """The options of a configuration file, or of a text in YAML given in place of a file's name.

    Raises:
        UserError: there is no such file, its text is not UTF-8, or it is no mapping in YAML.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(content := as_now(_inline(path)), dict):
            return content
        raise UserError(f"--config: got {path!r}, expected an existing YAML file.") from error
    text = _decoded(data, path)
    check_yaml(text, path)
    try:
        content = yaml.safe_load(text)
    except (RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"--config: {path!r} is not valid YAML{where}; {_FORM}.") from error
    if not isinstance(content, dict):
        raise UserError(f"--config: {path!r} holds no options; {_FORM}.")
    flat: dict[str, Any] = as_now(content)
    return flat


def as_now(content: Any) -> Any:
    """A configuration with the options of the model beside its ``class_path``, by their names now.

    Args:
        content: as read. Options under ``model.init_args``, as other parts have theirs, a class
            alone (``model: ZeroOrderModule``) and names of earlier versions are taken as well;
            anything else is handed back.

    Example:
        >>> as_now({"model": {"class_path": "a.B", "init_args": {"seed": 1}}})
        {'model': {'class_path': 'a.B', 'seed': 1}}
    """
    content = with_new_names(content)
    model = content.get("model") if isinstance(content, dict) else None
    if isinstance(model, str):
        return {**content, "model": {"class_path": model}}
    if not isinstance(model, dict) or not isinstance(model.get("init_args"), dict):
        return content
    beside = {name: value for name, value in model.items() if name != "init_args"}
    return {**content, "model": {**beside, **model["init_args"]}}


def _inline(text: str) -> Any:
    check_yaml(text, "the text of --config")
    try:
        return yaml.safe_load(text)
    except (RecursionError, yaml.YAMLError):
        return None


def _decoded(data: bytes, path: str) -> str:
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise UserError(f"--config: {path!r} is in {encoding}; save it as UTF-8.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"--config: {path!r} is not UTF-8 (byte 0x{data[error.start]:02x} in line {line}), "
            "perhaps Latin-1; save it as UTF-8."
        ) from error


def check_command(args: list[str]) -> None:
    """Refuse arguments that do not begin with a command.

    Raises:
        UserError: there is no command, or an unknown one; the message names all commands.
    """
    known = f"the commands are {', '.join(COMMANDS)}"
    if not args:
        raise UserError(f"a command is missing; {known}; see zolit --help.")
    first = args[0]
    if first in COMMANDS:
        return
    if first.startswith("-"):
        raise UserError(
            f"{first.partition('=')[0]}: got {' '.join(args[:3])!r}, expected the command first; "
            f"write: zolit fit --config FILE; {known}."
        )
    close = nearest_names(first, COMMANDS)
    near = f" (nearest: {', '.join(close)})" if close else ""
    raise UserError(f"there is no command {first!r}{near}; {known}; see zolit --help.")


def read_given(args: list[str]) -> Given:
    """What follows the command.

    Raises:
        UserError: there is no command, it does not come first, or a configuration is no YAML.
    """
    check_command(args)
    return Given(args[1:])


def with_recipe(args: list[str]) -> list[str]:
    """The arguments; ``--resume`` without ``--config`` gets the run's own configuration.

    Args:
        args: of the process.

    Raises:
        UserError: the folder holds no configuration.
    """
    if args[:1] not in (["fit"], ["prune"]):
        return args
    given = Given(args[1:])
    run = given.values.get("resume")
    if given.configs or not isinstance(run, str):
        return args
    file = Path(run) / "config.yaml"
    if not file.is_file():
        instead = "give the folder of a run, or its recipe by --config"
        if (Path(run) / "journal.bin").is_file():
            instead = (
                "give its recipe by --config, or where the run was made from Python go on there: "
                f"zolit.{args[0]}(module, data, {run!r}, resume=True)"
            )
        raise UserError(f"resume: {run!r} holds no config.yaml; {instead}")
    return [args[0], "--config", str(file), *args[1:]]
