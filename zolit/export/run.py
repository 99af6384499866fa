"""A checkpoint of a run as a folder for other tools."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from zolit.caller import by_caller
from zolit.export.card import model_card
from zolit.export.formats import FORMATS, check_format
from zolit.export.peft import save_peft
from zolit.export.plain import save_plain
from zolit.export.torchao import save_torchao
from zolit.files import check_new_folder, new_folder
from zolit.models.adapters.base import merge
from zolit.options import described
from zolit.runs.differences import changes_by_step
from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.reader import read_journal
from zolit.runs.rebuild import optimizer_and_schedule
from zolit.training.choose import class_path_of
from zolit.training.pruning import PruningModule


def export(
    run: Path,
    to: Path,
    kind: str = "safetensors",
    ckpt_path: Path | None = None,
    gguf_type: str | None = None,
    module: Any = None,
) -> None:
    """Write the model of a checkpoint, tokenizer and model card.

    Args:
        run: folder of the run.
        to: folder that is new or empty.
        kind: one of `FORMATS`.
        ckpt_path: of a checkpoint of the run; None for its best, else its last.
        gguf_type: one of `GGUF_TYPES`, for ``gguf`` alone.
        module: made as for the run, for a run without a configuration; it becomes the exported
            model and is of no use afterwards.

    Raises:
        UserError: if the run, its checkpoint or the folder cannot be used, or the model has no
            such form.
    """
    check_format(kind, gguf_type)
    check_new_folder(to)
    folder = RunFolder(run)
    file = checkpoint_file(folder, ckpt_path, by_caller("export", "export_model"))
    text = recipe_text(folder)
    call = f"zolit.export_model({str(run)!r}, {str(to)!r}, module=module)"
    module = module_of_run(text, run, call, module)
    step = load_checkpoint(module, file)
    made_of = yaml.safe_load(text) or _parts(module)  # while it still has its stored weights
    tokenizer = module.source.load_tokenizer()
    model: Any = module.finished()
    if kind != "peft":
        merge(model)
    with new_folder(to) as scratch:
        tokenizer.save_pretrained(scratch)
        if kind == "peft":
            notes = save_peft(module, scratch)
        elif kind == "torchao":
            notes = save_torchao(model, scratch)
        elif kind == "gguf":
            from zolit.models.gguf.write import save_gguf

            original = module.source.gguf_path() if module.source.gguf_file else None
            notes = save_gguf(model, tokenizer, gguf_type, scratch, original)
        else:
            notes = save_plain(model, scratch)
        stored = " ".join([FORMATS[kind], *(f"{note[0].upper()}{note[1:]}." for note in notes)])
        library = "peft" if kind == "peft" else "transformers"
        records = read_journal(folder.journal).records if folder.journal.is_file() else []
        card = model_card(
            made_of,
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


def _parts(module: Any) -> dict[str, Any]:
    """What `model_card` reads of a configuration, of a module that was made without one: its parts
    by their classes, as their arguments are not known."""
    if isinstance(module, PruningModule):
        how = {
            name: described(getattr(module, name))
            for name in ("pruner", "pattern", "reconstruction")
        }
        text = {"calibration": asdict(module.calibration), "dtype": module.dtype_name}
        source = asdict(module.source)
        made = {"class_path": class_path_of(type(module)), "source": source, **how, **text}
        return {"model": made}
    optimizer, schedule = optimizer_and_schedule(module)
    parts = {
        "quantizer": module.quantizer,
        "perturber": getattr(module, "perturber", None),
        "estimator": getattr(module, "estimator", None),
        "adapter": module.adapter,
        "optimizer": optimizer,
        "lr_scheduler": schedule,
    }
    named = {name: None if one is None else type(one).__name__ for name, one in parts.items()}
    source = asdict(module.source)
    whole = {"class_path": class_path_of(type(module)), "source": source, **named}
    return {"model": {**whole, "tune": module.tune, "seed": module.seed}}
