"""Keeps what libraries say, and what says nothing of the run, away from the user."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class DropMessages(logging.Filter):
    """Drops the records whose unformatted message starts with, and also contains, given text."""

    def __init__(self, start: str, contains: str) -> None:
        super().__init__()
        self._start = start
        self._contains = contains

    def filter(self, record: logging.LogRecord) -> bool:
        message = str(record.msg)
        return not (message.startswith(self._start) and self._contains in message)


_UNHELPFUL = {
    "lightning.pytorch.utilities.rank_zero": (
        "GPU available: False",
        "TPU available: False",
        "💡 Tip: For seamless",
        "Restoring states from the checkpoint",
        "Restored all states from the checkpoint",
        "Loaded model weights from the checkpoint",
        # zolit says itself that a run was interrupted.
        "\nDetected KeyboardInterrupt",
        # The table at the end says after how many steps.
        "`Trainer.fit` stopped: `max_",
    )
}
_TOLD_OTHERWISE = {
    # Of tensors without a place, which zolit refuses or tells in a line of its own.
    "transformers.modeling_utils": "LOAD REPORT",
}
_OF_THE_FOLDER = (
    # The run folder was checked, and an earlier run in it removed, before the logger looks at it.
    r"Experiment logs directory .* exists and is not empty",
    # The run in the folder is gone on with.
    r"Checkpoint directory .* exists and is not empty",
)
_UNHELPFUL_WARNINGS = (
    # Prompts are tokenized once, before the first step; one process collates them.
    r".*does not have many workers",
    # Lightning's own use of torch's pytree, which it will have to change.
    r".*isinstance\(treespec, LeafSpec\)",
    # Arguments are handed over from Python, as by tests and notebooks.
    r"LightningCLI's args parameter is intended to run from within Python",
    *_OF_THE_FOLDER,
    # A checkpoint is tested without the callback that saved it.
    r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",
    # It is tested from another folder than the run's, where nothing is saved.
    r"The dirpath has changed from",
    # Without a validation there is no best checkpoint: the table of the run says which it is of.
    r"`ModelCheckpoint\(monitor=.*\)` could not find the monitored key",
)


def quiet_libraries() -> None:
    """Drop what libraries print on the command line that says nothing of the run.

    These messages only, by their beginning; everything else is shown.
    """
    for name, starts in _UNHELPFUL.items():
        for start in starts:
            logging.getLogger(name).addFilter(DropMessages(start, ""))
    for name, part in _TOLD_OTHERWISE.items():
        logging.getLogger(name).addFilter(DropMessages("", part))
    for message in _UNHELPFUL_WARNINGS:
        warnings.filterwarnings("ignore", message=message)


@contextmanager
def quiet_about_validation() -> Iterator[None]:
    """Drop what Lightning says of a run that makes no validations."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"You defined a `validation_step` but have no")
        yield


@contextmanager
def quiet_about_the_folder() -> Iterator[None]:
    """Drop, for a run from Python, what Lightning says of a folder that zolit has checked.

    It warns that files would be deleted, which are not.
    """
    with warnings.catch_warnings():
        for message in _OF_THE_FOLDER:
            warnings.filterwarnings("ignore", message=message)
        yield
