"""Checks of a checkpoint's content, made before any of it is used.

Checkpoints are handed from one person to another. Reading one runs no code (``weights_only``). The
checks here are that its values have the types of a checkpoint, and that its paths stay inside the
folder of the run.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from zolit.caller import by_caller
from zolit.errors import UserError

_TYPES: dict[str, type] = {
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "lr_schedulers": list,
    "optimizer_states": list,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "zolit_estimator": dict,
    "zolit_pace": dict,
    "zolit_pending": dict,
    "zolit_rows": dict,
    "zolit_skipped_in_row": int,
    "zolit_skipped_queries": int,
    "zolit_skipped_steps": int,
}
_NEEDED = ("epoch", "global_step", "pytorch-lightning_version", "state_dict")


def check_content(content: Any, path: Path, option: str = "ckpt_path") -> None:
    """Refuse a file whose values are not of a checkpoint's types.

    Args:
        content: what was read from it.
        path: of the file.
        option: that named it, for the message.

    Raises:
        UserError: naming the first value that is missing or of another type.
    """
    found = content if isinstance(content, dict) else {}
    for name, kind in _TYPES.items():
        if name in found or name in _NEEDED:
            require(isinstance(found.get(name), kind), path, name, option)
    require(found["global_step"] >= 0 and found["epoch"] >= 0, path, "global_step", option)
    version = found["pytorch-lightning_version"].split(".")
    require(len(version) > 1 and version[0].isdecimal(), path, "pytorch-lightning_version", option)
    if "zolit_fingerprint" in found:
        counted = {"zolit_skipped_queries", "zolit_skipped_steps"} & found.keys()
        require(bool(counted), path, "zolit_skipped_queries", option)
        for name, tensor in found["state_dict"].items():
            plain = isinstance(name, str) and isinstance(tensor, Tensor)
            require(plain, path, "state_dict", option)
    for state in found.get("callbacks", {}).values():
        require(isinstance(state, dict), path, "callbacks", option)


def keep_inside(content: dict[str, Any], folder: Path) -> None:
    """Replace the paths that a `ModelCheckpoint` remembers by files of the same names in a folder.

    Lightning loads the best of these files after fitting and deletes the worse ones. By a path that
    leads elsewhere a checkpoint could have it delete any file of the user. This also lets a user
    move the folder of a run.

    Args:
        content: of the file, changed in place.
        folder: where the file stands.
    """
    for state in content.get("callbacks", {}).values():
        if "dirpath" not in state:
            continue
        state["dirpath"] = str(folder)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = _inside(state.get(name, ""), folder)
        models = state.get("best_k_models")
        named = models if isinstance(models, dict) else {}
        state["best_k_models"] = {_inside(path, folder): score for path, score in named.items()}
        if not state["best_model_path"]:
            state["best_model_score"] = None


def _inside(path: Any, folder: Path) -> str:
    """The path of the file with this name in the folder; an empty text if there is none."""
    name = Path(str(path)).name
    return str(folder / name) if name and (folder / name).is_file() else ""


def require(sound: bool, path: Path | None, name: str, option: str = "ckpt_path") -> None:
    """Refuse a checkpoint in which an entry is missing or of a wrong type.

    Args:
        sound: whether the entry is there and of the right type.
        path: of the file; None if it is not known.
        name: of the entry.
        option: that named the file, for the message.

    Raises:
        UserError: if it is not sound.
    """
    if not sound:
        where = "the file" if path is None else repr(str(path))
        raise UserError(
            f"{option}: {where} has no {name} such as a checkpoint of this recipe has; give "
            "another checkpoint of the run, or one that "
            f"{by_caller('zolit replay', 'zolit.replay')} writes"
        )
