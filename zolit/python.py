"""The commands as functions: runs from Python, kept in folders as those of the command line are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from zolit.arguments import checked
from zolit.callbacks.trainer import make_trainer
from zolit.export.run import export
from zolit.extras import require_extra
from zolit.objectives.decoding import find_decoder
from zolit.quiet import quiet_about_the_folder
from zolit.runs import fit as runs
from zolit.runs import prune as pruning
from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.generate import write_behind
from zolit.runs.parts import check_given
from zolit.runs.replay import replay as replayed
from zolit.runs.verify import verify as verified
from zolit.training.module import TuningModule
from zolit.training.pruning import PruningModule


@checked(
    data="give one whose train_dataloader returns it (val_dataloader and test_dataloader are "
    "measured), or hand the loader to the fit of a Lightning Trainer, which keeps no run"
)
def fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    run_dir: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    options: RunOptions | None = None,
    callbacks: tuple[L.Callback, ...] = (),
    **trainer: Any,
) -> dict[str, Any]:
    """Fine-tune a module and keep the run in a folder, as ``zolit fit`` does.

    The test rows are measured before the first step, and with the best checkpoint at the end.

    Args:
        module: the module to tune; its weights are moved.
        data: its training rows, and its validation and test rows if it has any.
        run_dir: folder of the run, for its journal, checkpoints, metrics.csv and summary.json.
        resume: continue the run in that folder. Module, data and trainer must be made as they were
            for the run; the weights are taken from it.
        overwrite: replace an earlier run in that folder.
        options: other options of a run, such as ``zero_shot``. Its ``run_dir`` and ``overwrite``
            are ignored.
        callbacks: your own callbacks. One of the same class as a callback of zolit's replaces it.
        trainer: options of Lightning's trainer, such as ``max_steps`` and ``val_check_interval``.

    Returns:
        The results of the run, as in summary.json.

    Raises:
        UserError: if an option is wrong, or the run cannot be made or continued.

    Example:
        >>> summary = fit(module, data, "runs/mine", max_steps=200)  # doctest: +SKIP
    """
    folder = RunFolder(run_dir, overwrite)
    if resume:
        folder.check_resumable()
    else:
        folder.check()
    options = options or RunOptions()
    given = {"max_epochs": -1, "callbacks": callbacks, **trainer}
    made = make_trainer(given, module, folder, options, fits=True)
    if isinstance(module, TuningModule) and module.model is None and not resume:
        check_given(module)
    with quiet_about_the_folder():
        return runs.fit(made, module, data, folder, options, resume=resume)


@checked
def prune(
    module: PruningModule,
    data: L.LightningDataModule,
    run_dir: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    options: RunOptions | None = None,
    callbacks: tuple[L.Callback, ...] = (),
    **trainer: Any,
) -> dict[str, Any]:
    """Prune the model of a module, block by block, as ``zolit prune`` does.

    Args:
        module: its model is changed.
        data: its test rows are measured before and after.
        run_dir: folder of the run.
        resume: continue the run in that folder. Module and data must be made as they were for it.
        overwrite: replace an earlier run in that folder.
        options: ``zero_shot`` and ``test_after_fit`` say whether there are tests.
        callbacks: your own callbacks.
        trainer: options of Lightning's trainer, such as ``enable_progress_bar``.

    Returns:
        What came of it, as in summary.json.

    Raises:
        UserError: if an option is wrong, or the model cannot be pruned.

    Example:
        >>> summary = prune(module, data, "runs/pruned")  # doctest: +SKIP
    """
    folder = RunFolder(run_dir, overwrite)
    if resume:
        folder.check_resumable()
    else:
        folder.check()
    options = options or RunOptions()
    made = make_trainer({"callbacks": callbacks, **trainer}, module, folder, options, fits=True)
    with quiet_about_the_folder():
        return pruning.prune(made, module, data, folder, options, resume=resume)


@checked(run="give the folder of a run")
def load(
    run: str | Path, ckpt_path: str | Path | None = None, module: TuningModule | None = None
) -> TuningModule:
    """Load the module of a run, with the weights of one of its checkpoints.

    ``load(run).network`` is the model of transformers, whose tuned layers are stored as in the run.
    Call it like any other model.

    Args:
        run: folder of the run.
        ckpt_path: a checkpoint of the run; by default its best, or its last if it has no best.
        module: the module, made as for the run. A run of the command line needs none, because its
            recipe describes the module. A run of `fit` has no recipe.

    Returns:
        The module that was given, or the one that the recipe describes.

    Raises:
        UserError: if the run or the checkpoint cannot be used, or is of another model.

    Example:
        >>> model = load("runs/mine").network  # doctest: +SKIP
        >>> model = load("runs/from_python", module=module).network  # doctest: +SKIP
    """
    folder = RunFolder(run)
    file = checkpoint_file(folder, None if ckpt_path is None else Path(ckpt_path), "load")
    call = f"zolit.load({str(run)!r}, module=module)"
    found: TuningModule = module_of_run(recipe_text(folder), folder.path, call, module)
    load_checkpoint(found, file)
    found.network.eval()
    return found


@checked
def generate(
    run: str | Path,
    prompts: Sequence[str],
    max_new_tokens: int = 50,
    stop: Sequence[str] = (),
    base: bool = False,
    chat: bool = False,
    checkpoint: str | Path | None = None,
    module: TuningModule | None = None,
) -> list[str]:
    """What the model of a run writes behind prompts, greedily: as ``zolit generate`` does.

    Args:
        run: folder of the run.
        prompts: texts to go on from, in one batch.
        max_new_tokens: most tokens that are written behind each.
        stop: texts that end what is written; they are not part of it.
        base: write with the model as the run started from it, not with a checkpoint.
        chat: put each prompt into the model's chat template.
        checkpoint: file of a checkpoint of the run; by default its best, else its last.
        module: made as for the run. A run of the command line needs none.

    Returns:
        A text for each prompt, without blanks around it.

    Raises:
        UserError: if the run cannot be used, or a prompt is empty or too long.

    Example:
        >>> [text] = generate("runs/mine", ["The film was"])  # doctest: +SKIP
    """
    folder = RunFolder(run)
    call = f"zolit.generate({str(run)!r}, prompts, module=module)"
    if base:
        found = module_of_run(recipe_text(folder), folder.path, call, module)
        found.configure_model()
    else:
        found = load(run, checkpoint, module)
    decoder = find_decoder(found.network)
    return write_behind(found, decoder, prompts, max_new_tokens, stop, chat)


@checked
def evaluate(
    run: str | Path | None,
    tasks: Sequence[str],
    include: str | Path | None = None,
    num_fewshot: int | None = None,
    limit: int | None = None,
    chat: bool = False,
    base: bool = False,
    checkpoint: str | Path | None = None,
    module: Any = None,
    batch_size: int = 16,
    max_length: int | None = None,
) -> dict[str, Any]:
    """Measure the model of a run on tasks of lm-evaluation-harness, as ``zolit evaluate`` does.

    It needs the extra ``eval``. `zolit.harness.model.HarnessModel` is the model by itself, for
    calls of the harness that this function does not make.

    Args:
        run: folder of the run, or a YAML file whose group ``model`` names a model and a quantizer;
            None where ``module`` alone says what is measured.
        tasks: names of tasks or groups that the harness knows, or YAML files of tasks.
        include: folder of further tasks; their YAML may name Python code, which is run.
        num_fewshot: examples before each row; None for as many as each task says.
        limit: first rows of each task; None for all.
        chat: whether rows go through the tokenizer's chat template.
        base: measure the model as the run started from it.
        checkpoint: file of a checkpoint of the run; by default its best, else its last.
        module: made as for the run. A run of the command line needs none.
        batch_size: rows that the model reads at once.
        max_length: tokens that it reads at most; by default its context.

    Returns:
        The harness's results: ``results`` by task, ``n-shot``, ``n-samples`` and others.

    Raises:
        UserError: if the run cannot be used, or there is no such task.

    Example:
        >>> evaluate("runs/mine", ["piqa"])["results"]["piqa"]["acc,none"]  # doctest: +SKIP
        0.62
    """
    require_extra("eval", "evaluate: lm-evaluation-harness")
    from zolit.harness.evaluate import evaluate_model
    from zolit.harness.model import HarnessModel

    model = HarnessModel(run, module, checkpoint, base, batch_size, max_length)
    return evaluate_model(model, tasks, include, num_fewshot, limit, chat)


@checked
def replay(
    run: str | Path,
    to: str | Path,
    until: int | None = None,
    module: TuningModule | None = None,
    salvage: bool = False,
) -> Path:
    """Make the checkpoint of any step of a run from its journal, as ``zolit replay`` does.

    Args:
        run: folder of the run.
        to: folder for the checkpoint, made if it does not exist.
        until: number of steps; by default all steps of the run.
        module: made anew as for the run, so that it has the weights that the run started from;
            these are moved. A run of the command line needs none.
        salvage: use the intact part of a damaged journal.

    Returns:
        The file of the checkpoint, which `load` takes.

    Raises:
        UserError: if there is no such step, or the weights are not those of the run.

    Example:
        >>> file = replay("runs/mine", "runs/replayed", until=50)  # doctest: +SKIP
    """
    return replayed(Path(run), until, Path(to), salvage, module)


@checked
def verify(
    run: str | Path,
    module: TuningModule | None = None,
    records_only: bool = False,
    salvage: bool = False,
) -> list[int]:
    """Check the journal of a run, and that its steps lead to the run's weights.

    This is what ``zolit verify`` does.

    Args:
        run: folder of the run.
        module: made anew as for the run, so that it has the weights that the run started from;
            these are moved. A run of the command line needs none.
        records_only: check the file of the journal alone, without a model.
        salvage: check the intact part of a damaged journal.

    Returns:
        Numbers of steps after which the weights were compared with those of the run, and equal.

    Raises:
        UserError: naming the first place that fails.

    Example:
        >>> steps = verify("runs/mine")  # doctest: +SKIP
    """
    return verified(Path(run), records_only, salvage, module)


@checked
def export_model(
    run: str | Path,
    to: str | Path,
    kind: str = "safetensors",
    ckpt_path: str | Path | None = None,
    gguf_type: str | None = None,
    module: TuningModule | None = None,
) -> None:
    """Write the model of a run to a folder that other tools load, as ``zolit export`` does.

    Args:
        run: folder of the run.
        to: folder for the model, new or empty.
        kind: ``safetensors`` (floats), ``torchao``, ``gguf`` or ``peft`` (docs/export.md).
        ckpt_path: a checkpoint of the run; by default its best, or its last if it has no best.
        gguf_type: block format of ``gguf``: one of Q8_0, Q4_0, Q4_1 and F16; by default the one
            that holds each weight's codes exactly.
        module: made as for the run. It is changed into the exported model and cannot be tuned
            further. A run of the command line needs none.

    Raises:
        UserError: if the run or the folder cannot be used, or the model has no such form.

    Example:
        >>> export_model("runs/mine", "tuned")  # doctest: +SKIP
    """
    file = None if ckpt_path is None else Path(ckpt_path)
    export(Path(run), Path(to), kind, file, gguf_type, module)
