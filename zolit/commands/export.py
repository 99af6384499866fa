"""``zolit export``: a checkpoint of a run as a folder for other tools."""

import sys
from pathlib import Path
from typing import Any

import yaml

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
from zolit.runs.finished import checkpoint_file, load_checkpoint
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.reader import read_journal


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

            original = module.source.gguf_path() if module.source.gguf_file else None
            notes = save_gguf(model, tokenizer, gguf_type, scratch, original)
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
