"""What a run costs the model besides its task: measured before its first step and at its end."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from zolit.calibration.text import whole_text
from zolit.caller import option
from zolit.checkpoints.moved import relative_moves
from zolit.checkpoints.tensors import weight_tensors
from zolit.datamodules.limits import context_length
from zolit.errors import UserError, tell
from zolit.evaluations.general_text import text_perplexity
from zolit.files import write_text
from zolit.models.families import find_kind
from zolit.packages import find_in_package
from zolit.runs.folder import RunFolder, RunOptions
from zolit.training.module import TuningModule

LENGTH, WINDOWS = 256, 32
"""Tokens of a window of the general text, and how many windows from its beginning."""


class AgainstStart:
    """The perplexity of a general text, and the way of the weights, if a run's options ask for it.

    The tensors that move are written to ``start.ckpt`` in the folder of the run before the first
    step, as large as a checkpoint, and mapped from there at the end: no second copy of the weights
    is in memory. What was measured at the start is in ``start.json``.

    Args:
        module: of the run, not loaded yet.
        folder: of the run.
        options: ``general_text``, ``general_text_package`` and ``weights_moved`` are read.

    Raises:
        UserError: if they cannot be followed.

    Example:
        >>> AgainstStart(module, RunFolder("runs/mine"), RunOptions()).asked  # doctest: +SKIP
        False
    """

    def __init__(self, module: L.LightningModule, folder: RunFolder, options: RunOptions) -> None:
        self.folder, self.options = folder, options
        self.asked = options.general_text is not None or options.weights_moved
        self._windows: list[Tensor] = []
        if not self.asked:
            return
        if not isinstance(module, TuningModule):
            raise UserError(
                f"{option('run.weights_moved')}: got a {type(module).__name__}, whose weights are "
                "its own; leave it and general_text out, or use ZeroOrderModule"
            )
        self.module = module
        if options.general_text is not None:
            self._windows = _windows(module, _file(options))

    def begin(self) -> None:
        """Measure the loaded model before its first step, in the folder of the run."""
        if self._windows:
            found = {"text": self._name, "perplexity": self._perplexity()}
            write_text(self.folder.start_figures, json.dumps(found) + "\n")
        if self.options.weights_moved:
            tensors = {
                name: one.detach().cpu()
                for name, one in weight_tensors(self.module.network).items()
            }
            torch.save(tensors, self.folder.start_tensors)

    def end(self) -> dict[str, Any]:
        """Measure the model as it is now, and compare.

        Returns:
            ``general_text``: name of the file, and its perplexity ``zero_shot`` and ``fine_tuned``;
            ``weights_moved``: the share by which each group of weights has moved. Only what was
            asked for.
        """
        found: dict[str, Any] = {}
        if self._windows:
            before = self._known().get("perplexity")
            figures = {"zero_shot": before, "fine_tuned": self._perplexity()}
            found["general_text"] = {"text": self._name, **figures}
        if self.options.weights_moved:
            if not self.folder.start_tensors.is_file():
                file = str(self.folder.start_tensors)
                tell(
                    f"run.weights_moved: {file!r} is not there, as the run began without the "
                    "option; how far its weights have moved is not known"
                )
                return found
            before = torch.load(self.folder.start_tensors, mmap=True, weights_only=True)
            found["weights_moved"] = relative_moves(self.module.network, before)
        return found

    @property
    def _name(self) -> str:
        return Path(str(self.options.general_text)).name

    def _known(self) -> dict[str, Any]:
        """What was measured at the start, if of the same text."""
        try:
            known = json.loads(self.folder.start_figures.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        return known if isinstance(known, dict) and known.get("text") == self._name else {}

    def _perplexity(self) -> float:
        network = self.module.network
        network.eval()
        found = text_perplexity(network, [one.to(self.module.device) for one in self._windows])
        network.train()
        return found


def _file(options: RunOptions) -> Path:
    name = str(options.general_text)
    if options.general_text_package is not None:
        return find_in_package(options.general_text_package, name)
    file = Path(name).expanduser()
    if not file.is_file():
        raise UserError(
            f"{option('run.general_text')}: there is no file {name!r}; name one of text, or set "
            "general_text_package to the pip package that brings it"
        )
    return file


def _windows(module: TuningModule, file: Path) -> list[Tensor]:
    """The first tokens of a text, in windows that the model can read."""
    config = module.source.load_config(weights=False)
    if find_kind(config) != "causal":
        raise UserError(
            f"{option('run.general_text')}: got a masked language model, which does not predict "
            "next tokens; leave it out"
        )
    length = min(LENGTH, context_length(config) or LENGTH)
    # No language has as many as 32 characters a token on average: this much text is enough.
    text = whole_text(file)[: 32 * length * WINDOWS]
    tokenizer = module.source.load_tokenizer()
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    cut = torch.tensor(ids[: length * WINDOWS], dtype=torch.int64).split(length)
    found = [one for one in cut if len(one) > 1]
    if not found:
        raise UserError(
            f"{option('run.general_text')}: {str(file)!r} has {len(ids)} tokens, at least 2 are "
            "needed; name a longer text"
        )
    return found
