"""One block of the model moves: the first behind which activations have outliers."""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from zolit.arguments import at_least
from zolit.calibration.activation_sizes import ActivationSize, activation_sizes
from zolit.calibration.text import windows_of_text
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.anatomy import named_blocks
from zolit.options import OnResume
from zolit.strategies.mask.base import Mask
from zolit.supports import ALL, Support

log = logging.getLogger(__name__)


class DominantBlock(Mask):
    """Moves what `tune` names in one block, the first behind which activations have outliers.

    Dominant-Layer ZO (arXiv 2606.05516) finds that tuning this block alone matches tuning all. The
    block is found before the first step, by running some text through the model; the run's
    config.yaml then names it, so that a resumed run or a replay does not look again. Its public
    descriptions do not define an outlier. Here it is a massive activation as Sun et al. define it
    (arXiv 2402.17762): above ``size``, and ``ratio`` times the median magnitude or more
    (docs/methods/masks.md).

    A run is then the same as one whose `tune` names this block alone: blocks before it run once for
    both signs, and checkpoints hold its weights and no others.

    Args:
        block: its number in the model, from 0; null to find it.
        text: file of text to find it by, a document a line.
        samples: windows of text, taken from the beginning of the file.
        length: tokens of a window.
        ratio: how many times the median magnitude behind a block an outlier is at least.
        size: magnitude that an outlier is above.

    Raises:
        UserError: if an argument is out of range, or neither ``block`` nor ``text`` is given.

    Example:
        ::

            mask:
              class_path: DominantBlock
              init_args:
                text: c4.txt # or block: 1, if it is known
    """

    on_resume: ClassVar[Mapping[str, OnResume]] = dict.fromkeys(
        ("text", "samples", "length", "ratio", "size"), OnResume.COMPARED
    )

    def __init__(
        self,
        block: int | None = None,
        text: str | None = None,
        samples: int = 8,
        length: int = 128,
        ratio: float = 1000.0,
        size: float = 100.0,
    ) -> None:
        if block is None and text is None:
            raise UserError(
                "mask DominantBlock: got neither block nor text, expected the block's number or a "
                "file of text to find it by; give text: FILE, a document a line"
            )
        if block is not None:
            at_least("block", block, 0, "the first block is 0")
        for name, value in (("samples", samples), ("length", length)):
            at_least(name, value, instead="try 8")
        at_least("ratio", ratio, instead="try 1000")
        at_least("size", size, 0, "try 100")
        self.block = block
        self.text = text
        self.samples = samples
        self.length = length
        self.ratio = ratio
        self.size = size
        self._found: int | None = None

    def watch(self, model: nn.Module, load_tokenizer: Callable[[], Any]) -> None:
        if self.block is not None:
            return
        blocks = named_blocks(model)
        if not blocks:
            raise UserError(
                f"mask DominantBlock: {type(model).__name__} has no list of blocks; use NoMask, "
                "and name what moves in `tune`"
            )
        file = Path(str(self.text)).expanduser()
        windows = windows_of_text(file, load_tokenizer(), self.samples, self.length)
        first = self._first(activation_sizes(model, windows, blocks))
        self._found = list(blocks).index(first.path)
        log.info(
            "DominantBlock: %s is the first block behind which an activation is an outlier (%.4g, "
            "%.4g times the median): what tune names in it moves, and nothing else",
            first.path,
            first.largest,
            first.ratio,
        )

    def _first(self, sizes: Sequence[ActivationSize]) -> ActivationSize:
        for one in sizes:
            if one.largest > self.size and one.ratio >= self.ratio:
                return one
        most = max(sizes, key=lambda one: one.ratio)
        raise UserError(
            f"mask DominantBlock: behind no block is an activation above size={self.size:g} and "
            f"{self.ratio:g} times the median; the largest ratio is {most.ratio:.4g}, behind "
            f"{most.path} ({most.largest:.4g} at most); lower ratio or size, or give block"
        )

    def part(self, model: nn.Module) -> str | None:
        number = self._found if self.block is None else self.block
        if number is None:
            return None
        blocks = list(named_blocks(model))
        if number >= len(blocks):
            raise UserError(
                f"mask DominantBlock: block must be below {len(blocks)}, the number of blocks of "
                f"{type(model).__name__}, got {number}"
            )
        return blocks[number]

    def look_at(self, model: nn.Module) -> None:
        if self.part(model) is None:  # on the meta device, where no text runs
            log.warning(
                "DominantBlock: the block is found when the model is loaded; until then all that "
                "tune names counts as moving. Give block, if it is known"
            )

    @property
    def settled(self) -> Mapping[str, int]:
        return {} if self._found is None else {"block": self._found}

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return ALL
