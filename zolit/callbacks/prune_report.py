"""summary.json of a pruning run: its figures before and after, and those of each block."""

import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from zolit.callbacks.peak_memory import memory_kind, peak_memory, reset_peak_memory
from zolit.files import write_text
from zolit.options import described
from zolit.runs.folder import RunFolder
from zolit.runs.journal.environment import library_versions
from zolit.training.pruned_blocks import BlockFigures
from zolit.training.pruning import PruningModule


class PruneReport(Callback):
    """Collects the figures of a pruning run; `zolit.runs.prune` writes them when there are new
    ones.

    Args:
        run_dir: folder of the run.

    Attributes:
        zero_shot: figures of the dense model.
        final: figures of the pruned model.

    Example:
        >>> PruneReport("runs/pruned").final
        {}
    """

    def __init__(self, run_dir: str) -> None:
        self.folder = RunFolder(run_dir)
        self.zero_shot: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self._pruned = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            reset_peak_memory()

    def take_up(self, zero_shot: dict[str, float]) -> None:
        """Take over the figures of the dense model from an earlier part of the run."""
        self.zero_shot = zero_shot

    def pruned(self) -> None:
        """Know that tests from here on are of the pruned model."""
        self._pruned = True

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test_")
        }
        if self._pruned:
            self.final = metrics
        else:
            self.zero_shot = metrics

    def write(
        self, module: PruningModule, blocks: Sequence[BlockFigures], status: str | None
    ) -> dict[str, Any]:
        """Write summary.json.

        Args:
            module: of the run.
            blocks: what came of each block so far.
            status: ``finished``, ``interrupted``, ``failed``, or None while the run goes on.

        Returns:
            What is written.
        """
        weights = module.weights
        total = sum(one.numel() for one in weights)
        zeros = sum(one.numel() - int(one.count_nonzero()) for one in weights)
        found = {
            "status": status,
            "zero_shot": self.zero_shot or None,
            "final": self.final or None,
            "pruner": described(module.pruner),
            "pattern": module.pattern.title,
            "reconstruction": None
            if module.reconstruction is None
            else described(module.reconstruction),
            "windows": module.calibration.samples,
            "steps": len(blocks),
            "zeros": round(zeros / max(total, 1), 6),
            "blocks": [asdict(one) for one in blocks],
            "seconds": round(sum(one.seconds for one in blocks), 1),
            "peak_memory_mb": round(peak_memory() / 2**20, 1),
            "memory": memory_kind(),
            "device": str(module.device),
            "seed": module.calibration.seed,
            "versions": {"python": platform.python_version(), **library_versions()},
        }
        text = json.dumps(_finite(found), indent=2)
        write_text(self.folder.summary, text + "\n")
        return found


def _finite(value: Any) -> Any:
    """The same value with None in the place of NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
