"""The blocks that a pruning run has pruned so far: a file for each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from zolit.errors import UserError
from zolit.files import replacing, write_text
from zolit.supports import Bits


@dataclass(frozen=True)
class BlockFigures:
    """What came of one block.

    Attributes:
        path: of the block.
        output_error: norm of the change of its output over the norm of the output, both over all
            windows of the calibration text.
        kept: fraction of the entries of its layers that are left.
        seconds: that it took.
    """

    path: str
    output_error: float
    kept: float
    seconds: float


class PrunedBlocks:
    """Files of pruned blocks in a folder, each whole or not there, in the order of the model.

    Args:
        folder: it exists.
        claim: everything that the result depends on, in plain values. Files of another claim are
            refused by `begin`.
    """

    def __init__(self, folder: Path, claim: Mapping[str, object]) -> None:
        self.folder = folder
        self._claim = folder / "claim.json"
        self._text = json.dumps(dict(claim), sort_keys=True)

    def begin(self) -> None:
        """Write down what the files will be of; refuse a folder that is of something else.

        Raises:
            UserError: naming what differs: the model, the text, the pruner or another option.
        """
        if not self._claim.is_file():
            write_text(self._claim, self._text)
            return
        try:
            before = json.loads(self._claim.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        now = json.loads(self._text)
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise UserError(
                    f"resume: the blocks in {str(self.folder)!r} were pruned with another {name}; "
                    "use the config.yaml of the run, and the model and the text as they were, or "
                    "begin a new run"
                )

    def count(self) -> int:
        """How many blocks are done, from the first on."""
        number = 0
        while self._file(number).is_file():
            number += 1
        return number

    def save(
        self,
        number: int,
        weights: Mapping[str, Tensor],
        supports: Mapping[str, Bits],
        figures: BlockFigures,
    ) -> None:
        """Write a block; when this returns, the file is on the disk.

        Args:
            number: of the block.
            weights: its new weights as the model holds them, by name.
            supports: which entries of each are left, as ``[rows, columns]`` matrices.
            figures: what came of it.

        Raises:
            OSError: if it cannot be written.
        """
        tensors = {name: one.contiguous().cpu() for name, one in weights.items()}
        tensors |= {f"{name}.kept": one.packed.cpu() for name, one in supports.items()}
        facts = {
            "figures": asdict(figures),
            "columns": {n: b.shape[1] for n, b in supports.items()},
        }
        with replacing(self._file(number), durable=True) as scratch:
            scratch.write_bytes(save(tensors, {"zolit_block": json.dumps(facts)}))

    def load(
        self, number: int, values: bool = True
    ) -> tuple[dict[str, Tensor], dict[str, Bits], BlockFigures]:
        """What `save` wrote.

        Args:
            number: of the block.
            values: whether the weights are wanted; an empty dict without.
        """
        weights: dict[str, Tensor] = {}
        supports: dict[str, Bits] = {}
        with safe_open(self._file(number), "pt") as opened:
            facts = json.loads(opened.metadata()["zolit_block"])
            for name, columns in facts["columns"].items():
                if values:
                    weights[name] = opened.get_tensor(name)
                supports[name] = Bits(opened.get_tensor(f"{name}.kept"), int(columns))
        return weights, supports, BlockFigures(**facts["figures"])

    def figures(self) -> list[BlockFigures]:
        """What came of each block that is done."""
        found = []
        for number in range(self.count()):
            with safe_open(self._file(number), "pt") as opened:
                facts = json.loads(opened.metadata()["zolit_block"])
            found.append(BlockFigures(**facts["figures"]))
        return found

    def supports(self) -> dict[str, Bits]:
        """Which entries of each weight are left, of all blocks that are done."""
        found: dict[str, Bits] = {}
        for number in range(self.count()):
            found |= self.load(number, values=False)[1]
        return found

    @torch.no_grad()
    def restore(self, model: torch.nn.Module) -> int:
        """Copy the weights of all blocks that are done into a model; how many these are."""
        count = self.count()
        for number in range(count):
            for name, value in self.load(number)[0].items():
                model.get_parameter(name).copy_(value)
        return count

    def _file(self, number: int) -> Path:
        return self.folder / f"block-{number:04d}.safetensors"
