"""What is left of a run: the checkpoint that stands for it."""

from pathlib import Path

from zolit.checkpoints.file import read_checkpoint
from zolit.errors import UserError
from zolit.runs.folder import RunFolder
from zolit.training.zero_order import ZeroOrderModule


def checkpoint_file(folder: RunFolder, ckpt_path: Path | None, command: str = "export") -> Path:
    """The checkpoint that stands for a run: the given one, its best, or its last.

    Args:
        folder: of the run.
        ckpt_path: that is asked for.
        command: that asks, for the message.

    Raises:
        UserError: if there is none, or no configuration beside it.
    """
    if ckpt_path is not None and not ckpt_path.is_file():
        there = sorted(str(one) for one in folder.checkpoints.glob("*.ckpt"))
        raise UserError(
            f"--ckpt_path: there is no file {str(ckpt_path.absolute())!r}; checkpoints of the run: "
            f"{', '.join(there) or 'none'}"
        )
    names = [folder.checkpoints / "best.ckpt", folder.checkpoints / "last.ckpt"]
    found = [path for path in ([ckpt_path] if ckpt_path else names) if path.is_file()]
    if not (found and folder.config.is_file()):
        raise UserError(
            f"{command}: {str(folder.path)!r} holds no run with a checkpoint; make one with zolit "
            "replay, or name a file with --ckpt_path"
        )
    return found[0]


def load_checkpoint(module: ZeroOrderModule, file: Path) -> int:
    """Load the model and a checkpoint's weights; how many steps these have behind them.

    Raises:
        UserError: if the file cannot be read or is of another model.
    """
    content = read_checkpoint(file)
    module.configure_model()
    module.on_load_checkpoint(content)
    module.load_state_dict(content["state_dict"])
    return int(content["global_step"])
