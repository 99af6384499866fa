"""Refuses a command, before any library is loaded, if that can be decided without one."""

from zolit.commands.given import Given, checkpoint_path, read_given, with_recipe
from zolit.errors import UserError, nearest_names
from zolit.training.trainer_options import refuse_trainer_options

GROUPS = ("model", "data", "trainer", "run", "saliency")
"""Groups of options."""

SINGLE = (
    "ckpt_path",
    "find_lr",
    "json",
    "resume",
    "return_predictions",
    "seed_everything",
    "to",
    "verbose",
    "weights_only",
)
"""Options that belong to no group; not every command takes each."""

_PARSER = ("config", "print_config", "")
"""Keys that belong to the parser itself; an empty configuration file has the key ``""``."""


def refuse_early(args: list[str], zero_order: bool) -> None:
    """Refuse a command by its arguments and configuration files alone.

    A command that passes is checked again when its parts are known. The folder of a run is looked
    at only then: a part that is mistyped is told before a folder that is not empty.

    Args:
        args: of the process.
        zero_order: whether the module is zolit's own unless the configuration names another.

    Raises:
        UserError: there is no such command or configuration, an option belongs to no group, the
            trainer's options are not zolit's, or there is no such checkpoint.
    """
    if {"-h", "--help", "--help.all"} & {*args[1:]}:
        return
    given = read_given(with_recipe(args))
    command = args[0]
    _refuse_groups(given)
    named = str(given.value("model.class_path") or "ZeroOrderModule").rpartition(".")[2]
    if zero_order and named in ("ZeroOrderModule", "FirstOrderModule"):
        names = (key.removeprefix("trainer.") for key in given.values if key.startswith("trainer."))
        options = {name: given.value(f"trainer.{name}") for name in names}
        refuse_trainer_options(options, command == "fit", named == "FirstOrderModule")
    if isinstance(path := given.value("ckpt_path"), str):
        checkpoint_path(given, command, path, given.run_dir(command))


def _refuse_groups(given: Given) -> None:
    known = [*GROUPS, *SINGLE]
    for key in given.values:
        group, _, rest = key.partition(".")
        if group in known or group in _PARSER:
            continue
        near = nearest_names(group, known, most=1, alike=0.6)
        # The parser knows the options of all parts: it names the group that an option belongs to.
        if near or rest or key not in given.options:
            expected = f"nearest: {near[0]}" if near else f"expected one of {', '.join(known)}"
            raise UserError(f"unknown option {group}; {expected}.")
