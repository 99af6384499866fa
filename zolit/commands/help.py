"""What ``zolit`` says of itself; nothing here waits for a library."""

from collections.abc import Sequence

from zolit import __version__

RECIPE_COMMANDS = {
    "fit": "fine-tune a model and keep the run in a folder",
    "validate": "measure a model, or a checkpoint, on the validation rows",
    "test": "measure a model, or a checkpoint, on the test rows",
    "predict": "print the answer to each test row of the recipe as CSV",
    "estimate": "tell the memory that a recipe needs before anything is loaded",
    "sweep": "try some values of options on the validation rows, and stop hopeless ones early",
    "prune": "set weights to zero, block by block, and keep the pruned model",
    "saliency": "score how much the loss depends on each weight, for masks and quantizers",
}
"""Commands that read a recipe."""

RUN_COMMANDS = {
    "runs": "list the runs below a folder, with state, step and figures",
    "compare": "tables and pictures of runs side by side, with their spread over seeds",
    "predict": "answer every row of a file with the model of a run, as CSV",
    "generate": "write on from prompts with the model of a run, and with its base",
    "evaluate": "measure the model of a run on tasks of lm-evaluation-harness",
    "replay": "rebuild the weights of any step from the journal of a run",
    "verify": "check every record of a run's journal and the weights that they make",
    "export": "write the model of a run as a folder that other tools load",
    "publish": "write a run as a small file for others who have its base model",
    "apply": "make the weights of a published run again beside its base model",
}
"""Commands that take the folder of a run, of several, or a published file."""

COMMANDS = RECIPE_COMMANDS | RUN_COMMANDS

_HELP = """\
zolit {version}: fine-tune quantized neural networks with forward passes only

usage: zolit COMMAND [options]

commands that read a recipe (YAML):
{recipe}

commands that take a finished or stopped run:
{run}

examples:
  zolit fit --config configs/quickstart.yaml --run.run_dir runs/first
  zolit fit --config configs/quickstart.yaml --model.optimizer.lr 0.01 --run.run_dir runs/second
  zolit test --config runs/first/config.yaml --ckpt_path runs/first/checkpoints/best.ckpt
  zolit predict runs/first --rows new.csv --to answers.csv
  zolit prune --config configs/wandapp/wanda.yaml --run.run_dir runs/pruned
  zolit generate runs/first --prompt "The film was" --base
  zolit export runs/first --to model
  zolit compare runs/first runs/second --png compared.png
  zolit sweep --config configs/quickstart.yaml --grid lr=0.04,0.4,4

zolit COMMAND --help lists the options of a command, zolit --version prints the version.
Every option of a recipe is also an option of the command line: a dot for each level of the YAML.
Read more: README.md of the repository, then docs/methods.md (what can be combined), docs/runs.md
(resume, replay, verify) and docs/export.md.
"""


def help_text() -> str:
    """The answer to ``zolit --help``."""
    return _HELP.format(
        version=__version__, recipe=_listed(RECIPE_COMMANDS), run=_listed(RUN_COMMANDS)
    )


def _listed(commands: dict[str, str]) -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(f"  {name:<{width}}  {what}" for name, what in commands.items())


def takes_run(args: Sequence[str]) -> bool:
    """Whether a command is called on the folder of a run, not with a recipe.

    Args:
        args: the arguments of the process.
    """
    if args[:1] == ["predict"]:
        recipe = ("-c", "--config", "--model", "--data", "--trainer")
        return not any(one.startswith(recipe) for one in args[1:])
    return bool(args) and args[0] in RUN_COMMANDS


def answer(args: Sequence[str]) -> str | None:
    """What zolit answers without running a command; None where a command is to run.

    Args:
        args: the arguments of the process.
    """
    if not args or not args[0].startswith("-"):
        return None
    for argument in args:
        if argument in COMMANDS:
            return None
        if argument in ("-h", "--help"):
            return help_text()
        if argument == "--version":
            return f"zolit {__version__}\n"
    return None
