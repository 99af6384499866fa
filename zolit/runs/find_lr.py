"""Proposes eps and a learning rate for a run that has not begun (``zolit fit --find_lr``)."""

import math
import tempfile
from itertools import islice
from typing import Any

import lightning as L
import torch

from zolit.errors import UserError
from zolit.rates.find import DIRECTIONS, find_rates
from zolit.rates.proposal import Proposal
from zolit.runs.folder import RunFolder
from zolit.runs.masks import prepare_mask
from zolit.strategies import Sensitive
from zolit.training.zero_order import ZeroOrderModule


def find_lr(
    module: L.LightningModule,
    data: L.LightningDataModule,
    steps: int,
    device: torch.device | str | None = None,
) -> Proposal:
    """Propose eps and a learning rate for a run, from its loss along random directions.

    The model is loaded, and stays as the run starts from it: nothing is moved, and nothing is
    written. The run may follow with the same module.

    Args:
        module: of the recipe.
        data: its data; the first training batches of the first epoch are read.
        steps: optimizer steps of the run.
        device: where to compute; None leaves the module where it is.

    Returns:
        The proposal; its `take` gives the numbers to the module.

    Raises:
        UserError: if the module makes no steps along directions, or the loss does not depend on
            what moves.

    Example:
        >>> found = find_lr(module, data, steps=200)  # doctest: +SKIP
        >>> print(*found.told(), sep="\\n")  # doctest: +SKIP
        >>> found.take(module)  # doctest: +SKIP
    """
    module = check_finds(module)
    if steps < 1:
        raise UserError(f"steps: got {steps}, expected the number of steps of the run, at least 1")
    data.prepare_data()
    data.setup("fit")
    if module.model is None:
        if isinstance(module.mask, Sensitive) and module.mask.file is None:
            raise UserError(
                "mask: got Sensitive without a file, whose scores a run makes in its own folder; "
                "make them before by zolit saliency and give the file, or use zolit fit --find_lr"
            )
        module.configure_model()
    batches: list[Any] = list(islice(data.train_dataloader(), DIRECTIONS * module.micro_batches))
    if device is not None:
        place = torch.device(device)
        module.to(place)
        batches = [data.transfer_batch_to_device(one, place, 0) for one in batches]
    return find_rates(module, batches, steps)


def load_aside(module: ZeroOrderModule, data: L.LightningDataModule) -> None:
    """Load the model of a run that will not be made; nothing of it stays on the disk.

    Args:
        module: of the recipe.
        data: its data, from whose rows a mask may make scores.
    """
    data.prepare_data()
    data.setup("fit")
    module.compiles_blocks = False  # it takes longer than so few passes
    # A mask that goes by scores reads their file when the model is loaded, and not again.
    with tempfile.TemporaryDirectory(prefix="zolit_find_lr_") as folder:
        prepare_mask(module, data, RunFolder(folder))
        module.configure_model()


def check_finds(module: L.LightningModule) -> ZeroOrderModule:
    """Refuse a module that has no directions, or whose steps follow from more than their slopes.

    Raises:
        UserError: naming its class, or its estimator's.
    """
    if isinstance(module, ZeroOrderModule):
        estimator = module.estimator
        if estimator.measures == 1 and not estimator.by_example:
            return module
        raise UserError(
            f"find_lr: it goes by slopes of the mean loss, got estimator "
            f"{type(estimator).__name__}, whose steps follow from more; try some learning rates, a "
            "factor of three apart"
        )
    raise UserError(
        f"find_lr: it compares losses along the directions of ZeroOrderModule, got "
        f"{type(module).__name__}; try some learning rates, a factor of three apart"
    )


def planned_steps(trainer: L.Trainer, module: ZeroOrderModule, loader: Any) -> int | None:
    """How many steps a trainer will make; None where only the time is limited.

    Args:
        trainer: of the run.
        module: its ``micro_batches`` count.
        loader: its training loader.
    """
    found = [trainer.max_steps] if trainer.max_steps > 0 else []
    epochs, limit = trainer.max_epochs, trainer.limit_train_batches
    if epochs is not None and epochs > 0 and hasattr(loader, "__len__"):
        batches = len(loader)
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        found.append(epochs * max(1, math.ceil(batches / module.micro_batches)))
    return min(found, default=None)
