"""Runs of a tiny model that can be killed at any moment and taken up again."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset

from zolit.callbacks import Journal
from zolit.checkpoints.file import FileCheckpoints
from zolit.datamodules.epochs import EpochSampler, ResumableLoader
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD, DiZO, HiZOO, ZOAdam, ZOConservative, ZOMomentum
from zolit.runs.folder import RunFolder
from zolit.runs.journal import Contents, read_journal
from zolit.runs.rebuild import resumed_checkpoint
from zolit.strategies import (
    SVRG,
    ClippedTwoPoint,
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Estimator,
    Float8,
    Int4,
    Int8,
    LayerLengths,
    Magnitude,
    NoQuantizer,
    PerExample,
    RandomBlocks,
    RandomMask,
    ScalePerturber,
    SecondDifference,
    SmallWeights,
    SparsePerturber,
)
from zolit.training.zero_order import ZeroOrderModule

sys.path.insert(0, str(Path(__file__).parent / "models"))
from tiny_models import batch, tiny

BATCHES, STEPS, VALIDATE = 6, 14, 4
Options = dict[str, Any]


class Rows(Dataset):
    """Batches of the tiny Llama, each with labels of its own."""

    def __init__(self) -> None:
        self.base = batch("llama")

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, index: int) -> PromptBatch:
        one = self.base
        labels = (one.labels + index) % 3
        return PromptBatch(
            one.input_ids, one.attention_mask, one.answer_positions, one.answer_ids, labels
        )


def loader() -> ResumableLoader:
    return ResumableLoader(
        Rows(),
        batch_size=1,
        sampler=EpochSampler(range(BATCHES), 5),
        collate_fn=lambda one: one[0],
        generator=torch.Generator(),
    )


def sgd(lr: float, **options: Any) -> Any:
    return lambda params: ZOSGD(params, lr=lr, **options)


def schedule(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.StepLR(optimizer, 2, gamma=0.8)


KEPT = {"error_feedback": True}
RECIPES: dict[str, Options] = {
    "codes": {"optimizer": sgd(100.0)},
    "dense": {
        "quantizer": NoQuantizer(),
        "perturber": DensePerturber(),
        "optimizer": sgd(0.1),
        "dtype": "bfloat16",
    },
    "scales": {
        "quantizer": Int4(32),
        "perturber": ScalePerturber(),
        "optimizer": sgd(0.1),
        "query_scheduler": ConstantQueries(3),
    },
    "int8, feedback": {
        "quantizer": Int8(keep_error=True),
        "optimizer": sgd(100.0, **KEPT),
        "lr_scheduler": schedule,
        "query_scheduler": ConstantQueries(2),
    },
    "int4, feedback": {
        "quantizer": Int4(32, keep_error=True),
        "optimizer": sgd(30.0, **KEPT),
        "lr_scheduler": schedule,
    },
    "float8": {"quantizer": Float8(), "optimizer": sgd(100.0)},
    "W8A8": {
        "quantizer": Int8(activations="int8"),
        "perturber": CodePerturber(distribution="rademacher"),
        "optimizer": sgd(100.0),
    },
    "blocks": {
        "perturber": ScalePerturber(),
        "optimizer": sgd(0.1),
        "mask": RandomBlocks(),
        "query_scheduler": ConstantQueries(3),
    },
    "blocks, codes": {
        "optimizer": sgd(100.0),
        "mask": RandomBlocks(),
        "query_scheduler": ConstantQueries(2),
    },
    "magnitude": {
        "quantizer": Int8(keep_error=True),
        "optimizer": sgd(100.0, **KEPT),
        "mask": Magnitude(0.2),
        "query_scheduler": ConstantQueries(2),
    },
    "small weights": {
        "quantizer": Int8(keep_error=True),
        "optimizer": sgd(100.0, **KEPT),
        "mask": SmallWeights(0.2),
    },
    "overlay": {
        "quantizer": Int4(32),
        "perturber": SparsePerturber(),
        "mask": RandomMask(0.05),
        "optimizer": sgd(0.1),
        "query_scheduler": ConstantQueries(2),
    },
    "momentum": {
        "optimizer": lambda params: ZOMomentum(params, lr=30.0, tolerance=0.5),
        "lr_scheduler": schedule,
        "query_scheduler": ConstantQueries(2),
    },
    "adam": {
        "perturber": ScalePerturber(),
        "optimizer": lambda params: ZOAdam(params, lr=0.05, tolerance=0.5),
    },
    "conservative": {
        "optimizer": lambda params: ZOConservative(params, lr=100.0),
        "lr_scheduler": schedule,
    },
    "curvature": {
        "quantizer": NoQuantizer(),
        "perturber": DensePerturber(eps=0.05),
        "estimator": SecondDifference(),
        "optimizer": lambda params: HiZOO(params, lr=0.1, smooth=0.2),
        "query_scheduler": ConstantQueries(2),
    },
    "curvature of scales": {
        "quantizer": Int4(32),
        "perturber": ScalePerturber(),
        "estimator": SecondDifference(),
        "optimizer": lambda params: HiZOO(params, lr=0.1, smooth=0.2, unbiased=True),
        "micro_batches": 2,
    },
    "lengths": {
        "estimator": LayerLengths(),
        "optimizer": lambda params: DiZO(params, 100.0, interval=3, iterations=2, length_lr=0.1),
        "query_scheduler": ConstantQueries(2),
    },
    "lengths, feedback": {
        "quantizer": Int4(32, keep_error=True),
        "estimator": LayerLengths(paired=False),
        "optimizer": lambda params: DiZO(
            params, 30.0, ["*"], interval=2, iterations=2, error_feedback=True
        ),
        "micro_batches": 2,
    },
    "examples": {
        "perturber": ScalePerturber(),
        "estimator": PerExample(),
        "optimizer": sgd(0.01),
        "micro_batches": 2,
    },
    "micro-batches": {"optimizer": sgd(100.0), "micro_batches": 4},
    # Their estimators have states of their own: see `module`.
    "clipped": {"optimizer": sgd(100.0)},
    "svrg": {"optimizer": sgd(100.0), "query_scheduler": ConstantQueries(2)},
    "svrg, scales": {
        "quantizer": Int4(32),
        "perturber": ScalePerturber(),
        "optimizer": lambda params: ZOMomentum(params, lr=0.1, tolerance=0.5),
        "micro_batches": 2,
    },
}


def estimator_of(recipe: str) -> Estimator | None:
    if recipe == "clipped":
        return ClippedTwoPoint(window=5)
    return SVRG(every=3, batches=4) if recipe.startswith("svrg") else None


def module(recipe: str = "codes", **options: Any) -> ZeroOrderModule:
    settings: Options = {
        "quantizer": Int8(),
        "perturber": CodePerturber(),
        "dtype": "float32",
        "kernels": "reference",
        "seed": 3,
        "estimator": estimator_of(recipe),
    }
    parts = {**settings, **RECIPES[recipe], **options}
    one = ZeroOrderModule(ModelSource("unused"), **parts)
    dtype = torch.bfloat16 if one.dtype_name == "bfloat16" else torch.float32
    one.adopt(tiny("llama").to(dtype))
    return one


class Killed(BaseException):
    """Stands for the end of the process."""


class Kill(L.Callback):
    """Ends the run in a hook, after so many steps."""

    def __init__(self, hook: str, steps: int) -> None:
        def end(trainer: L.Trainer, *args: Any) -> None:
            if trainer.global_step == steps:
                raise Killed

        setattr(self, hook, end)


def trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    last = ModelCheckpoint(folder / "checkpoints", "last", enable_version_counter=False)
    run = L.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        callbacks=[*callbacks, last],
        **{
            "max_steps": STEPS,
            "val_check_interval": VALIDATE,
            "check_val_every_n_epoch": None,
            **options,
        },
    )
    run.strategy.checkpoint_io = FileCheckpoints()
    return run


def validation() -> Any:
    return DataLoader(Rows(), batch_size=1, collate_fn=lambda one: one[0])  # type: ignore[arg-type]


def start(folder: Path, one: ZeroOrderModule, *kill: L.Callback, **options: Any) -> L.Trainer:
    """Fit from the start; a kill ends it early."""
    run = trainer(folder, Journal(), *kill, **options)
    try:
        run.fit(one, loader(), validation())
    except Killed:
        assert kill
    return run


def resume(
    folder: Path, one: ZeroOrderModule, *kill: L.Callback, **options: Any
) -> tuple[list[str], int]:
    """Go on as ``zolit fit --resume`` does; what was said, and the step it went on from."""
    journal, said = Journal(), []
    run = trainer(folder, journal, *kill, **options)
    journal.claim(folder)
    found = contents(folder)
    files = RunFolder(folder)
    try:
        content = resumed_checkpoint(one, run, loader(), found, files, said.append)
    except UserError:
        journal.close()  # as the end of the process does
        raise
    path: str | None = None
    step = 0
    if found.header is not None:
        step = found.header.step if content is None else content["global_step"]
        path = found.header.checkpoint or None
        journal.take_up(found, step, {})
    if content is not None:
        io = FileCheckpoints()
        io.hold(str(files.journal), content)
        run.strategy.checkpoint_io = io
        path = str(files.journal)
    try:
        run.fit(one, loader(), validation(), ckpt_path=path, weights_only=True)
    except Killed:
        assert kill
    return said, step


def contents(folder: Path) -> Contents:
    return read_journal(folder / "journal.bin")
