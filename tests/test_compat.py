"""What the import of the libraries says, and what must still be heard."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from zolit import compat

ROOT = Path(__file__).resolve().parents[1]


def test_import_is_silent() -> None:
    command = [sys.executable, "-W", "error", "-c", "import zolit.compat"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["torchao", "torch.utils._pytree", "transformers"])
def test_other_messages_pass(name: str) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        logger.warning("Failed to load %s", "the weights")
        logger.warning("a real fault")
    finally:
        logger.removeHandler(handler)
    assert heard == ["Failed to load the weights", "a real fault"]


def test_everything_promised_is_there() -> None:
    assert all(hasattr(compat, name) for name in compat.__all__)


def test_it_is_the_one_door() -> None:
    """Nothing else imports torchao, or transformers below its top level."""
    inner = ("import torchao", "from torchao", "from transformers.", "import transformers.")
    strays = []
    for package in ("zolit", "strategies", "datamodules"):
        for file in (ROOT / package).rglob("*.py"):
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
            if file.name != "compat.py":
                strays += [f"{file.name}: {line}" for line in lines if line.startswith(inner)]
    # The table of model types has no other name.
    allowed = "from transformers.models.auto.modeling_auto import MODEL_FOR_"
    assert [stray for stray in strays if allowed not in stray] == []
