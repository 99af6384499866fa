"""The result of a finished run: its checkpoint, and the module that the checkpoint belongs to."""

from pathlib import Path
from typing import Any

from zolit.caller import by_caller
from zolit.checkpoints.file import read_checkpoint
from zolit.errors import UserError
from zolit.recipes.parts import module_of
from zolit.runs.folder import RunFolder
from zolit.runs.masks import take_up
from zolit.training.module import TuningModule


def checkpoint_file(folder: RunFolder, ckpt_path: Path | None, command: str) -> Path:
    """The checkpoint of a run that a command uses: the given one, else the best, else the last.

    Args:
        folder: of the run.
        ckpt_path: the given one; None for none.
        command: name of the command, for the message.

    Raises:
        UserError: if there is none.
    """
    if ckpt_path is not None and not ckpt_path.is_file():
        there = sorted(str(one) for one in folder.checkpoints.glob("*.ckpt"))
        raise UserError(
            f"ckpt_path: there is no file {str(ckpt_path.absolute())!r}; checkpoints of the run: "
            f"{', '.join(there) or 'none'}"
        )
    if not (folder.config.is_file() or folder.holds_run()):
        raise _no_run(folder, command)
    names = [folder.checkpoints / "best.ckpt", folder.checkpoints / "last.ckpt"]
    found = [path for path in ([ckpt_path] if ckpt_path else names) if path.is_file()]
    if not found:
        raise _no_run(folder, command)
    return found[0]


def _no_run(folder: RunFolder, command: str) -> UserError:
    return UserError(
        f"{command}: {str(folder.path)!r} holds no run with a checkpoint; make one with "
        + by_caller(
            "zolit replay, or name a file with --ckpt_path",
            "zolit.replay, or name a file with ckpt_path",
        )
    )


def recipe_text(folder: RunFolder) -> str:
    """The configuration of a run as YAML; empty for a run that was made from Python."""
    return folder.config.read_text(encoding="utf-8") if folder.config.is_file() else ""


def module_of_run(config: str, run: Path, call: str, module: Any = None) -> Any:
    """The module of a run, not yet loaded: as its configuration says, or the one that is given.

    It gets what the folder keeps for it (`take_up`).

    Args:
        config: of the run, as YAML; empty for a run that was made from Python.
        run: its folder.
        call: the Python call that does the same, for the message.
        module: made as for the run; None for the one that the configuration describes.

    Raises:
        UserError: if there is neither, the configuration names no parts, or a file is gone that
            they need.
    """
    if module is None:
        module = _made(config, run, call)
    take_up(module, run)
    return module


def _made(config: str, run: Path, call: str) -> Any:
    if not config:
        raise UserError(
            f"{str(run)!r} was made from Python and has no recipe, which says how its model is "
            f"made; make its module from Python, as for the run, and call {call}"
        )
    return module_of(config)


def load_checkpoint(module: TuningModule, file: Path) -> int:
    """Load the model and a checkpoint's weights; returns how many steps these have made.

    Raises:
        UserError: if the file cannot be read or is of another model.
    """
    content = read_checkpoint(file)
    module.configure_model()
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return int(content["global_step"])
