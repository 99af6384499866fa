"""The console script ``zolit``. It answers what it can before any library is loaded."""

import errno
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from zolit.caller import as_command
from zolit.commands.help import answer, takes_run
from zolit.errors import UserError
from zolit.threads import share_cores

if TYPE_CHECKING:
    import lightning as L

    from zolit.commands.parser import ZolitCLI

_DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)

# Read by tqdm when it is imported: a bar appears only for what takes longer than this many
# seconds, such as a download, and not for each file that is opened.
os.environ.setdefault("TQDM_DELAY", "5")
if not (sys.stderr and sys.stderr.isatty()):
    os.environ.setdefault("TQDM_DISABLE", "1")  # a log file keeps every state of a bar


def main(
    args: list[str] | None = None, model_class: "type[L.LightningModule] | None" = None
) -> None:
    """Run a command.

    Exits with 2 and one sentence on stderr where the user can mend it, with 130 after Ctrl-C.
    Anything else is a fault of zolit and keeps its traceback.

    Args:
        args: command-line arguments, by default those of the process.
        model_class: another module than ``ZeroOrderModule``.
    """
    given = sys.argv[1:] if args is None else args
    if (said := answer(given)) is not None:
        print(said, end="")
        sys.exit(0)
    # A user's own strategies stand beside the configuration. Last, so that they shadow nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with as_command():
            _start(given, model_class)
    except UserError as error:
        _refuse(str(error))
    except OSError as error:
        if error.errno not in _DISK_FAULTS:
            raise
        _refuse(
            f"{error.filename or 'a file of the run'} cannot be written ({error.strerror}); make "
            "room, then go on with the run by --resume"
        )
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        # Lightning makes one of a Ctrl-C outside of fitting; a stop between steps is another class.
        if type(end.__context__) is KeyboardInterrupt:
            _interrupted()
        raise


def run(
    model_class: "type[L.LightningModule] | None" = None, args: list[str] | None = None
) -> "ZolitCLI":
    """Parse, run, and hand back the finished command; errors are raised."""
    from zolit.commands import parser

    with as_command():
        return parser.run(model_class, args)


def _start(given: list[str], model_class: "type[L.LightningModule] | None") -> None:
    if takes_run(given):
        share_cores()
        from zolit.commands import on_runs

        on_runs.run(given)
        return
    if given[:1] == ["sweep"]:
        from zolit.commands import sweep

        sweep.run(given[1:], model_class)
        return
    from zolit.commands.early import refuse_early

    refuse_early(given, model_class is None)
    share_cores()
    from zolit.commands import console

    console.run_command(model_class, given)


def _refuse(sentence: str) -> NoReturn:
    print(f"zolit: error: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(2)


def _interrupted() -> NoReturn:
    print("zolit: interrupted", file=sys.stderr)
    sys.exit(130)


if __name__ == "__main__":
    main()
