"""What a run does for its mask: the saliency that it lacks, and the choice that the run keeps."""

import shutil
import time
from pathlib import Path
from typing import Any

import lightning as L

from zolit.calibration.saliency import There, check_options
from zolit.calibration.scored import scored_weights
from zolit.errors import UserError, nearest_names, tell
from zolit.files import work_folder
from zolit.models.loading.open import OpenCheckpoint, open_checkpoint
from zolit.models.prepare import Preparation
from zolit.runs.folder import RunFolder
from zolit.runs.journal.reader import read_journal
from zolit.runs.parts import check_files, check_version
from zolit.runs.saliency import find_windows, gradient_dtype, kept_fraction, score
from zolit.strategies import Sensitive
from zolit.strategies.mask.kept import KeptMask
from zolit.training.dtype import DTYPES
from zolit.training.module import TuningModule
from zolit.training.zero_order import ZeroOrderModule


def prepare_mask(module: L.LightningModule, data: L.LightningDataModule, folder: RunFolder) -> bool:
    """Give the mask of a run what it chooses by, before the model is loaded.

    Args:
        module: of the run.
        data: set up; its rows are scored where the mask names no text.
        folder: of the run, claimed.

    Returns:
        Whether the folder has a saliency that was computed for this run.

    Raises:
        UserError: whatever the user can mend.
    """
    if not isinstance(module, ZeroOrderModule) or module.model is not None:
        return False
    mask = module.mask
    if not isinstance(mask, Sensitive):
        return False
    if mask.file is not None:
        if mask.saliency is not None:
            tell(f"mask Sensitive: takes the scores of {mask.file!r}; `saliency` is not used")
        return False
    _compute(module, mask, data, folder)
    return True


def keep_mask(module: L.LightningModule, folder: RunFolder) -> None:
    """Write the choice of a mask that read a file into the folder of the run, once.

    Args:
        module: loaded, at the weights that the run starts from.
        folder: of the run, created.

    Raises:
        UserError: if the choice has no such form.
    """
    if not isinstance(module, ZeroOrderModule) or not module.mask.kept:
        return
    if not isinstance(module.mask, KeptMask):
        KeptMask.keep(module.network, folder.mask, module.mask)


def take_up(module: Any, run: Path) -> None:
    """Give the module of a run that was made before what its folder keeps for it.

    Args:
        module: made as for the run, not loaded yet.
        run: folder of the run.

    Raises:
        UserError: if a file is gone that its weights cannot be made without, or the quantizer has
            another version than that of the run.
    """
    if not isinstance(module, TuningModule):
        return
    folder = RunFolder(run)
    if isinstance(module, ZeroOrderModule) and folder.mask.is_file():
        module.mask = KeptMask(folder.mask, module.mask)
    header = read_journal(folder.journal).header if folder.journal.is_file() else None
    recorded = {} if header is None else header.parts
    check_version(module, recorded, str(run))
    check_files(module, recorded, str(run))


def _compute(
    module: ZeroOrderModule, mask: Sensitive, data: L.LightningDataModule, folder: RunFolder
) -> None:
    """Score the model's weights, and tell the mask where the scores are."""
    options, file = mask.wanted(module.perturber), folder.saliency
    check_options(options.method, kept_fraction(options))
    gradient_dtype(module, options, file)
    _check_ahead(module, mask)
    windows = find_windows(module, data, options)
    what = "training rows" if options.text is None else f"windows of {options.text}"
    print(
        f"mask Sensitive: scoring the weights of {module.source.path} by gradients of "
        f"{len(windows)} {what}, kept in {file}",
        flush=True,
    )
    began = time.perf_counter()
    there: There = "replace" if folder.overwrite else "take"
    try:
        made = score(module, windows, options, file, there)
    except UserError:
        shutil.rmtree(work_folder(file), ignore_errors=True)
        raise
    except BaseException:
        tell(f"what was scored so far stays in {folder.path}; the same command goes on with it")
        raise
    seconds = time.perf_counter() - began
    print(
        f"mask Sensitive: {len(made.paths)} matrices have {made.method} scores after "
        f"{seconds:.1f} s",
        flush=True,
    )
    mask.take(file)


def _check_ahead(module: ZeroOrderModule, mask: Sensitive) -> None:
    """Refuse what names and shapes alone tell, before minutes are spent on scores."""
    dtype = DTYPES[module.dtype_name]
    opened = open_checkpoint(module.source, dtype, Preparation(*module.parts()))
    if not isinstance(opened, OpenCheckpoint):
        return  # its plan is made when it is loaded whole
    blocks = scored_weights(opened.skeleton).values()
    scored = {one.path: one.shape for weights in blocks for one in weights}
    for one in opened.plan.weights:
        if one.index is None:
            continue
        if one.path not in scored:
            near = nearest_names(one.path, scored, most=1)
            raise UserError(
                f"mask Sensitive: {one.path} gets no scores"
                + (f" (nearest that does: {near[0]})" if near else "")
                + "; only linear layers of blocks do, leave other weights out of `tune`"
            )
        rows, columns = scored[one.path]
        if mask.per == "matrix" and not module.perturber.moves_scales:
            mask.count_of(rows * columns, one.path)
