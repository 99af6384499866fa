"""``zolit generate RUN``: what the model of a run writes behind prompts."""

import argparse
from pathlib import Path

from zolit.errors import tell

_DESCRIPTION = """Write on from prompts with the model of a run: the likeliest token again and
again, until the text ends or has its length. With --base the model that the run started from writes
first, so that both can be compared. The text goes to the standard output."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zolit generate``; `on_runs` adds the run itself."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--prompt",
        action="append",
        required=True,
        help="text to go on from; may be given more than once",
    )
    parser.add_argument(
        "--max_new_tokens", type=int, default=50, help="most tokens that are written (50)"
    )
    parser.add_argument(
        "--stop",
        action="append",
        default=[],
        help="text that ends what is written, such as a line end; may be given more than once",
    )
    parser.add_argument(
        "--base", action="store_true", help="also write with the model as the run started from it"
    )
    parser.add_argument(
        "--chat", action="store_true", help="put the prompt into the model's chat template"
    )
    parser.add_argument(
        "--ckpt_path", type=Path, help="by default the run's best checkpoint, else its last"
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if an argument is wrong, or the run cannot be used.
    """
    from zolit.commands.predict import show
    from zolit.objectives.decoding import find_decoder
    from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
    from zolit.runs.folder import RunFolder
    from zolit.runs.generate import write_behind

    folder = RunFolder(given.run)
    file = checkpoint_file(folder, given.ckpt_path, "generate")
    call = f"zolit.generate({str(given.run)!r}, prompts, module=module)"
    module = module_of_run(recipe_text(folder), folder.path, call)
    module.configure_model()
    decoder = find_decoder(module.network)
    how = (decoder, given.prompt, given.max_new_tokens, given.stop, given.chat)
    before = write_behind(module, *how) if given.base else None
    step = load_checkpoint(module, file)
    after = write_behind(module, *how)
    show(_told(given.prompt, before, after))
    tell(f"written by {file} after step {step}")


def _told(prompts: list[str], before: list[str] | None, after: list[str]) -> str:
    """The texts; with a heading each if there are several."""
    if before is None and len(prompts) == 1:
        return f"{after[0]}\n"
    lines = []
    for number, prompt in enumerate(prompts):
        lines.append(f"prompt: {prompt}")
        if before is not None:
            lines.append(f"base: {before[number]}")
        lines += [f"run: {after[number]}", ""]
    return "\n".join(lines[:-1]) + "\n"
