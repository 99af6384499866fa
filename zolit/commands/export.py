"""``zolit export``: a checkpoint of a run as a folder for other tools."""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from zolit.checkpoints.file import read_checkpoint
from zolit.errors import UserError
from zolit.export.card import model_card
from zolit.export.formats import FORMATS
from zolit.export.peft import save_peft
from zolit.export.plain import save_plain
from zolit.export.torchao import save_torchao
from zolit.extras import EXTRAS, require_extra
from zolit.files import check_new_folder, new_folder
from zolit.models.adapters.base import merge
from zolit.recipes.parts import module_of
from zolit.runs.differences import changes_by_step
from zolit.runs.folder import RunFolder
from zolit.runs.journal.reader import read_journal
from zolit.training.zero_order import ZeroOrderModule


def export(
    run: Path,
    to: Path,
    kind: str = "safetensors",
    ckpt_path: Path | None = None,
    gguf_type: str | None = None,
) -> None:
    """Write the model of a checkpoint, tokenizer and model card.

    Args:
        run: folder of the run.
        to: folder that is new or empty.
        kind: one of `FORMATS`.
        ckpt_path: of a checkpoint of the run; None for its best, else its last.
        gguf_type: one of `GGUF_TYPES`, for ``gguf`` alone.

    Raises:
        UserError: if the run, its checkpoint or the folder cannot be used, or the model has no
            such form.
    """
    if gguf_type is not None and kind != "gguf":
        raise UserError(f"--gguf-type: got {gguf_type} beside --format {kind}; use --format gguf")
    if kind in EXTRAS:
        require_extra(kind, f"--format: writing {kind}")
    check_new_folder(to)
    folder = RunFolder(run)
    file = checkpoint_file(folder, ckpt_path)
    text = folder.config.read_text(encoding="utf-8")
    module = module_of(text)
    step = load_checkpoint(module, file)
    tokenizer = module.source.load_tokenizer()
    model: Any = module.network
    if kind != "peft":
        merge(model)
    with new_folder(to) as scratch:
        tokenizer.save_pretrained(scratch)
        notes = []
        if kind == "peft":
            notes = save_peft(module, scratch)
        elif kind == "torchao":
            notes = save_torchao(model, scratch)
        elif kind == "gguf":
            from zolit.models.gguf.write import save_gguf

            notes = save_gguf(model, module.source, tokenizer, gguf_type, scratch)
        else:
            save_plain(model, scratch)
        stored = " ".join([FORMATS[kind], *(f"{note[0].upper()}{note[1:]}." for note in notes)])
        library = "peft" if kind == "peft" else "transformers"
        records = read_journal(folder.journal).records if folder.journal.is_file() else []
        card = model_card(
            yaml.safe_load(text),
            summary_of(folder),
            step,
            stored,
            library,
            changes_by_step(records),
        )
        (scratch / "README.md").write_text(card, encoding="utf-8")
    for note in notes:
        print(f"zolit: {note}", file=sys.stderr)
    print(f"{to}: the model of {file} after step {step}, as {kind}")


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


def summary_of(folder: RunFolder) -> dict[str, Any]:
    """summary.json of a run; empty if it was not written or is not readable."""
    try:
        found = json.loads(folder.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
