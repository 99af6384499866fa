"""The module whose model is measured: of a run, of a recipe, or one that is given."""

from pathlib import Path
from typing import Any

from zolit.errors import UserError
from zolit.recipes.parts import module_of
from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
from zolit.runs.folder import RunFolder


def loaded_module(
    run: str | Path | None, module: Any, checkpoint: str | Path | None, base: bool
) -> tuple[Any, str]:
    """A `TuningModule` with its weights.

    Args:
        run: folder of a run, or a YAML file whose group ``model`` names a model and a quantizer;
            None where a module is given.
        module: of a run that was made from Python, or alone; None for what ``run`` says.
        checkpoint: of the run; None for its best, else its last.
        base: the model as the run started from it.

    Returns:
        The module, and words for the weights that it has.

    Raises:
        UserError: there is neither a run nor a module, or the run cannot be used.
    """
    if run is None:
        if module is None:
            raise UserError(
                "run: expected the folder of a run, a YAML file with the group model, or a module; "
                "got none of them"
            )
        module.configure_model()
        return module, "a module"
    path = Path(run)
    if path.is_file():
        if checkpoint is not None:
            raise UserError(
                f"checkpoint: got {str(checkpoint)!r} and the recipe {str(run)!r}, which has no "
                "checkpoints; name the folder of its run"
            )
        try:
            found = module_of(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise UserError(
                f"run: {str(run)!r} is no text in UTF-8; name a YAML file, or the folder of a run"
            ) from error
        found.configure_model()
        return found, f"the model of {run}, untuned"
    folder = RunFolder(path)
    call = f"zolit.evaluate({str(run)!r}, tasks, module=module)"
    if base:
        found = module_of_run(recipe_text(folder), folder.path, call, module)
        found.configure_model()
        return found, f"the model that {run} started from"
    file = checkpoint_file(folder, None if checkpoint is None else Path(checkpoint), "evaluate")
    found = module_of_run(recipe_text(folder), folder.path, call, module)
    step = load_checkpoint(found, file)
    return found, f"{file} after step {step}"
