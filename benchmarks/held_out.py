"""Held-out loss of finished runs against their zero-shot model, example by example.

    python benchmarks/held_out.py runs/quzo_int8 runs/mezo ...

For each run folder the model is built from its config.yaml and scored on its test rows twice, as
it started and with the run's checkpoint. Losses are compared in pairs: mean difference, 95 %
interval, two-sided paired t-test. Writes DIR/held_out.json beside each run's files.
"""

import argparse
import json
from pathlib import Path

import waiting  # noqa: F401
import torch
from scipy import stats
from torch.nn import functional as F

from zolit.commands.parser import ZolitCLI
from zolit.datamodules import PromptDataModule
from zolit.quiet import quiet_libraries
from zolit.training.zero_order import ZeroOrderModule


class BuiltCLI(ZolitCLI):
    """Makes what a configuration names, and runs nothing."""

    def test(self, *_: object, **__: object) -> None:
        """Left to this script."""


@torch.no_grad()
def test_losses(module: ZeroOrderModule, data: PromptDataModule) -> tuple[torch.Tensor, float]:
    """Cross-entropy of each test example, ``[N]`` float64, and accuracy."""
    module.network.eval()
    losses, hits = [], []
    for batch in data.test_dataloader():
        scores = module.objective.scores(module.network, batch)
        losses.append(F.cross_entropy(scores, batch.labels, reduction="none"))
        hits.append((scores.argmax(dim=1) == batch.labels).double())
    return torch.cat(losses).double(), float(torch.cat(hits).mean())


def compare(run: Path, checkpoint: str) -> dict[str, object]:
    """Zero-shot against ``run/checkpoints/<checkpoint>`` on the run's test rows."""
    parser_args = ["--config", str(run / "config.yaml")]
    cli = BuiltCLI(ZeroOrderModule, PromptDataModule, ["test", *parser_args])
    module, data = cli.model, cli.datamodule
    data.prepare_data()
    data.setup("test")
    module.configure_model()
    before, accuracy_before = test_losses(module, data)
    saved = torch.load(run / "checkpoints" / checkpoint, weights_only=True)
    module.load_state_dict(saved["state_dict"])
    after, accuracy_after = test_losses(module, data)
    test = stats.ttest_rel(after.numpy(), before.numpy())
    interval = test.confidence_interval(0.95)
    return {
        "run": run.name,
        "checkpoint": checkpoint,
        "step": saved["global_step"],
        "examples": len(before),
        "zero_shot_loss": float(before.mean()),
        "loss": float(after.mean()),
        "difference": float((after - before).mean()),
        "interval": [float(interval.low), float(interval.high)],
        "p_value": float(test.pvalue),
        "zero_shot_accuracy": accuracy_before,
        "accuracy": accuracy_after,
    }


def main() -> None:
    """Compare each run named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--checkpoint", default="last.ckpt", help="best.ckpt or last.ckpt")
    arguments = parser.parse_args()
    quiet_libraries()
    for run in arguments.runs:
        result = compare(run, arguments.checkpoint)
        (run / "held_out.json").write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
