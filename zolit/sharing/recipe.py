"""The part of a run's configuration that is published, and checks of a published one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zolit.datamodules import PromptDataModule
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.recipes.guard import load_yaml
from zolit.recipes.parts import parts_of
from zolit.training.zero_order import ZeroOrderModule

_OWN = ("zolit.", "torch.optim.")
_EARLIER = "start_from"


def public_recipe(config: dict[str, Any]) -> dict[str, Any]:
    """A recipe without entries that are useless elsewhere: trainer, run folder, local folders.

    Args:
        config: of a run.

    Raises:
        UserError: if the run started from files of another one.
    """
    model = {name: value for name, value in config["model"].items() if name != "source"}
    if any(name == _EARLIER and value for name, value in _pairs(model)):
        raise UserError(
            "publish: the run started from a checkpoint or adapter of another run, which others do "
            "not have; use zolit export"
        )
    found: dict[str, Any] = {"model": model}
    data = config.get("data") or {}
    given = {
        name: one
        for name, one in (data.get("init_args") or {}).items()
        if name in PromptDataModule.published
    }
    if str(data.get("class_path", "")).startswith("zolit."):
        found["data"] = {"class_path": data["class_path"], "init_args": given}
    public: dict[str, Any] = _without_folders(found)
    return public


def public_source(source: ModelSource) -> dict[str, Any]:
    """Where others find the base model; for a local folder only its name, as ``local``."""
    found = {name: getattr(source, name) for name in ModelSource.published}
    folder = Path(source.path).expanduser()
    if source.package is None and (folder.is_absolute() or folder.exists()):
        found["local"] = folder.resolve().name
        del found["path"]
    return found


def read_recipe(text: str, file: Path, trusted: Sequence[str]) -> dict[str, Any]:
    """Read the recipe of a published run; it may only name code that the user has agreed to.

    Args:
        text: YAML.
        file: published file, for messages.
        trusted: classes that may be named besides zolit's own and torch's optimizers and schedules.

    Raises:
        UserError: if it names another class, or has entries that `public_recipe` never writes.
    """
    config = load_yaml(text, f"apply: the recipe in {str(file)!r}")
    if not isinstance(config.get("model"), dict):
        raise _strange(file, "it has no recipe")
    if set(config) - {"model", "data"} or "source" in config["model"]:
        raise _strange(file, "its recipe has groups that are not published")
    for name in parts_of(ZeroOrderModule):
        part = config["model"].get(name)
        if part is not None and not (isinstance(part, dict) and "class_path" in part):
            raise _strange(file, f"its model.{name} is no class with its options")
    _check_data(config.get("data"), file)
    for name, value in _pairs(config):
        if name == _EARLIER and value:
            raise _strange(file, "its recipe starts from files of another run")
        if name != "class_path" or (isinstance(value, str) and value in trusted):
            continue
        if not isinstance(value, str) or not value.startswith(_OWN):
            raise UserError(
                f"apply: the recipe in {str(file)!r} names {value}, which is no part of zolit; if "
                f"you have it and trust it, add --trust {value}"
            )
    return config


def read_source(found: dict[str, Any], file: Path) -> ModelSource:
    """The base model that a published file names.

    Raises:
        UserError: if it names a local folder of its author, or a path outside of its folder.
    """
    if "local" in found:
        raise UserError(
            f"--model: {str(file)!r} was made from a folder named {found['local']!r}; give the "
            "folder or hub name where you have that model"
        )
    given: dict[str, Any] = {name: found.get(name) for name in ModelSource.published}
    texts = [given["path"], given["package"] or "", given["revision"] or ""]
    known = given["kind"] in ("auto", "causal", "masked")
    if not (known and given["path"] and all(isinstance(one, str) for one in texts)):
        raise _strange(file, "it names no base model")
    if ".." in Path(given["path"]).parts or Path(given["path"]).is_absolute():
        raise _strange(file, "the path of its base model leaves its place")
    given["gguf_file"] = read_file_name(found, file)
    if Path(given["path"]).exists() and given["package"] is None:
        raise _strange(file, "the name of its base model is that of a folder here; give --model")
    return ModelSource(**given)


def read_file_name(found: dict[str, Any], file: Path) -> str | None:
    """The GGUF file that a published file names beside its base model; None for none.

    Raises:
        UserError: if it is not the name of a file.
    """
    name = found.get("gguf_file")
    if name is not None and (not isinstance(name, str) or Path(name).name != name):
        raise _strange(file, "the gguf_file of its base model leaves its place")
    return name


def _check_data(data: Any, file: Path) -> None:
    if data is None:
        return
    given = data.get("init_args") if isinstance(data, dict) else None
    if (
        not isinstance(given, dict)
        or set(data) - {"class_path", "init_args"}
        or set(given) - {*PromptDataModule.published}
    ):
        raise _strange(file, "its recipe has options of data that are not published")
    rows = given.get("rows")
    if rows is not None and not (isinstance(rows, dict) and "class_path" in rows):
        raise _strange(file, "its rows are no class with its options")


def _pairs(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at all depths."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield str(name), one
            yield from _pairs(one)
    elif isinstance(value, list):
        for one in value:
            yield from _pairs(one)


def _without_folders(value: Any) -> Any:
    """The same value with each absolute path replaced by its last part."""
    if isinstance(value, dict):
        return {name: _without_folders(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_folders(one) for one in value]
    if isinstance(value, str) and (value.startswith("~") or Path(value).is_absolute()):
        return Path(value).name
    return value


def _strange(file: Path, reason: str) -> UserError:
    return UserError(
        f"apply: {str(file)!r} is not what zolit publish writes ({reason}); get it again from "
        "somebody you trust"
    )
