"""Kill a pruning run at random moments, resume it each time, and compare its end.

A tiny model of eight blocks is pruned by the command line; each attempt is a process of its own.
Whenever a run has reached its end in spite of the kills, its weights, its support and its figures
must be those of a run that nothing disturbed.

    OMP_NUM_THREADS=1 python benchmarks/kill_pruning.py --kills 20
"""

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import waiting  # noqa: F401
import torch
import transformers as hf
from kill import attempt
from tiny_run import FILMS, make_model

METHODS = {
    "wanda": ["--model.pruner", "Wanda"],
    "rgs": ["--model.pruner", "RegionalGradients"],
    "sparsegpt": ["--model.pruner", "SparseGPT", "--model.activations", "disk"],
    "wanda++": [
        *("--model.pruner", "RegionalGradients", "--model.activations", "disk"),
        *("--model.reconstruction", "RegionalOptimization"),
        *("--model.reconstruction.inputs", "4"),
    ],
}
"""Options by the name of a method."""


def prepare(folder: Path) -> list[str]:
    """Write the model and its text; arguments of ``zolit prune``."""
    make_model(folder / "model")
    config = hf.AutoConfig.from_pretrained(folder / "model")
    config.num_hidden_layers = 8
    torch.manual_seed(0)
    hf.LlamaForCausalLM(config).save_pretrained(folder / "model")
    text = folder / "text.txt"
    text.write_text(" ".join(20 * FILMS), encoding="utf-8")
    return [
        *("prune", "--model.source.path", str(folder / "model"), "--model.dtype", "float32"),
        *("--model.calibration.text", str(text), "--model.calibration.samples", "16"),
        *("--model.calibration.length", "32", "--model.pattern", "NofM"),
        *("--data", "TextDataModule", "--data.test_text", str(text), "--data.length", "32"),
        *("--data.test_windows", "8", "--trainer.enable_progress_bar", "false"),
    ]


def end_of(run: Path) -> tuple[dict[str, torch.Tensor], bytes, object, list[float]]:
    """What a finished run came to: weights, support, figures, and output errors."""
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    figures = summary["zero_shot"], summary["final"], summary["zeros"]
    errors = [block["output_error"] for block in summary["blocks"]]
    return content["state_dict"], (run / "support.safetensors").read_bytes(), figures, errors


def same_end(one: Path, two: Path) -> bool:
    """Whether two runs came to the same, bit for bit."""
    mine, theirs = end_of(one), end_of(two)
    equal = all(torch.equal(tensor, theirs[0][name]) for name, tensor in mine[0].items())
    return equal and mine[0].keys() == theirs[0].keys() and mine[1:] == theirs[1:]


def finished(run: Path) -> bool:
    """Whether a run says that it is."""
    file = run / "summary.json"
    return file.is_file() and json.loads(file.read_text())["status"] == "finished"


def disturb(name: str, base: list[str], folder: Path, kills: int, seed: int) -> dict[str, object]:
    """Kill the runs of a method until there were so many kills."""
    args, log, whole = [*base, *METHODS[name]], folder / "log.txt", folder / f"whole-{name}"
    began = time.perf_counter()
    _, status = os.waitpid(attempt([*args, "--run.run_dir", str(whole)], log), 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"the undisturbed run failed:\n{log.read_text(encoding='utf-8')}")
    draw = random.Random(seed)  # noqa: S311
    moments: Counter[str] = Counter()
    done = runs = 0
    while done < kills:
        run = folder / f"{name}-{runs}"
        while not finished(run):
            begun = (run / "blocks").is_dir()
            if not begun and run.exists():
                shutil.rmtree(run)
            where = ["--resume", str(run)] if begun else ["--run.run_dir", str(run)]
            child = attempt([*args, *where], log)
            if done < kills:
                time.sleep(draw.uniform(0, 1.1 * seconds))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
                raise SystemExit(f"a resumed run failed:\n{log.read_text(encoding='utf-8')}")
            if os.WIFSIGNALED(status):
                done += 1
                blocks = len(list((run / "blocks").glob("*.safetensors")))
                moments["at the end" if finished(run) else f"after {blocks} blocks"] += 1
        if not same_end(run, whole):
            raise SystemExit(f"{run} did not come to the same end")
        runs += 1
    return {"method": name, "kills": done, "runs": runs, "moments": dict(sorted(moments.items()))}


def main() -> None:
    """Print a line of JSON for each method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of each method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork does not inherit the threads of a pool
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        base = prepare(folder)
        for name in given.methods:
            print(json.dumps(disturb(name, base, folder, given.kills, given.seed)), flush=True)


if __name__ == "__main__":
    main()
