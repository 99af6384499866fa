"""``zolit fit --find_lr``: rates proposed before a run, told or used."""

from typing import Any, Literal

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from zolit.errors import UserError, tell
from zolit.rates.proposal import Proposal
from zolit.runs.find_lr import check_finds, find_lr, load_aside, planned_steps
from zolit.training.zero_order import ZeroOrderModule

_ASSUMED_STEPS = 200
"""Of a run whose trainer limits its time alone."""


def add_find_lr(parser: LightningArgumentParser) -> None:
    """Add the option to a parser."""
    parser.add_argument(
        "--find_lr",
        nargs="?",
        const="tell",
        default=None,
        type=Literal["tell", "use"] | None,
        help="Tell fitting lr and eps, and stop; or use them. They come from the loss along random "
        "directions.",
    )


def check_find_lr(config: Namespace, command: str, module: type[L.LightningModule]) -> None:
    """Refuse the option where nothing can be found.

    Args:
        config: of the command, as parsed.
        command: that is run.
        module: class of the module.

    Raises:
        UserError: naming what it stands beside.
    """
    if config.find_lr is None:
        return
    if command != "fit" or config.resume is not None or config.ckpt_path is not None:
        raise UserError(
            f"find_lr: got {config.find_lr!r} beside {command}, resume or ckpt_path; it looks at "
            "the weights that a new run starts from: zolit fit --config FILE --find_lr"
        )
    if not issubclass(module, ZeroOrderModule):
        raise UserError(
            f"find_lr: it compares losses along the directions of ZeroOrderModule, got "
            f"{module.__name__}; try some values of model.optimizer.lr by zolit sweep"
        )


def tell_rates(trainer: L.Trainer, model: Any, datamodule: L.LightningDataModule) -> Proposal:
    """A proposal for the run that a trainer would make, told to the user.

    Args:
        trainer: of the run.
        model: of the recipe; loaded here if it is not yet, with nothing left on the disk.
        datamodule: its data.
    """
    module = check_finds(model)
    if module.model is None:
        load_aside(module, datamodule)
    steps = planned_steps(trainer, module, datamodule.train_dataloader())
    if steps is None:
        steps = _ASSUMED_STEPS
        tell(f"find_lr: no trainer.max_steps says how long the run is; {steps} steps are assumed")
    found = find_lr(module, datamodule, steps, trainer.strategy.root_device)
    print(*found.told(), sep="\n", flush=True)
    return found


def use_rates(
    trainer: L.Trainer, model: Any, datamodule: L.LightningDataModule, config: Namespace
) -> None:
    """Let a run begin with a proposal, which its config.yaml then names.

    Args:
        trainer: of the run.
        model: of the recipe, loaded.
        datamodule: its data, set up.
        config: of the command.
    """
    found = tell_rates(trainer, model, datamodule)
    found.take(model)
    config["model.perturber.init_args.eps"] = found.eps
    if found.lr is not None:
        config["model.optimizer.init_args.lr"] = found.lr
