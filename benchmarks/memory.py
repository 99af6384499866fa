"""Peak memory of whole processes, beside what `zolit estimate` says.

    python benchmarks/memory.py configs/quickstart.yaml configs/mezo/rotten_tomatoes.yaml
    python benchmarks/memory.py --folder /tmp/zolit-llama-7b --perturber codes scales
    python benchmarks/memory.py --compiler

Recipes run through the command line for a few steps, with a few batches of validation and test,
each in a process of its own; the peak is what the system counted for the process (resident set,
files that it has mapped included), from its start to its end. The estimate gets the same options.

With ``--folder`` a checkpoint (`benchmarks/random_llama.py` writes one) is quantized to int4 while
it is loaded, and one module steps on random tokens; no data, no run folder.

With ``--compiler`` what compiling the kernels of a step leaves in a process, for
`zolit/memory/compiler.py`.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table

from zolit.allocator import returning_memory
from zolit.callbacks.peak_memory import peak_memory, reset_peak_memory, resident_memory
from zolit.gradient import ProjectedGradient
from zolit.memory.batches import Batches
from zolit.memory.estimate import estimate_memory
from zolit.models.source import ModelSource
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD
from zolit.strategies import (
    CodePerturber,
    Int4,
    Mask,
    Perturber,
    RandomMask,
    ScalePerturber,
    SparsePerturber,
)
from zolit.training.zero_order import ZeroOrderModule

PERTURBERS: dict[str, Perturber] = {
    "codes": CodePerturber(0.1, distribution="rademacher"),
    "scales": ScalePerturber(1e-2),
    "entries": SparsePerturber(),
}
MASKS: dict[str, Mask] = {"entries": RandomMask(1e-3)}
"""Of perturbers that need one."""


def spawn(command: list[str], environment: dict[str, str] | None = None) -> tuple[str, int]:
    """Standard output and peak resident set, in bytes, of a process.

    Raises:
        RuntimeError: it failed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)  # noqa: S603
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {errors.read()[-2000:]}")
        scale = 1 if sys.platform == "darwin" else 1024
        return out.read(), usage.ru_maxrss * scale


def measure_recipe(config: Path, steps: int, batches: int, more: list[str]) -> dict[str, Any]:
    """Estimated and measured peak of ``zolit fit``, in bytes."""
    options = ["--config", str(config), "--trainer.max_steps", str(steps)]
    options += ["--trainer.val_check_interval", str(steps)]
    options += ["--trainer.limit_val_batches", str(batches)]
    options += ["--trainer.limit_test_batches", str(batches), *more]
    zolit = [sys.executable, "-m", "zolit.cli"]
    said, _ = spawn([*zolit, "estimate", *options, "--json", "true"])
    estimate = json.loads(said.splitlines()[-1])
    with tempfile.TemporaryDirectory() as folder:
        place = ["--run.run_dir", f"{folder}/run"]
        bar = ["--trainer.enable_progress_bar", "false"]
        _, peak = spawn([*zolit, "fit", *options, *place, *bar])
    name = "/".join(config.with_suffix("").parts[-2:])
    return {"name": name, "estimate": estimate["total"], "measured": peak, "parts": estimate}


@torch.no_grad()
def measure_folder(folder: Path, perturber: str, quantizer: Int4, length: int) -> dict[str, Any]:
    """Phases of one process that loads a checkpoint in int4 and steps on one row, in bytes."""
    base = resident_memory()
    reset_peak_memory()
    source = ModelSource(str(folder))

    def module() -> ZeroOrderModule:
        return ZeroOrderModule(source, quantizer, PERTURBERS[perturber], mask=MASKS.get(perturber))

    batch = tokens(source, length)
    loaded = module()
    loaded.configure_model()
    loading = peak_memory()
    reset_peak_memory()
    resident = resident_memory()
    loaded.network.eval()
    optimizer = ZOSGD(loaded.weights, lr=1e-9)
    peaks = []
    for number in range(3):
        reset_peak_memory()
        # As `ZeroOrderModule.training_step` does.
        with returning_memory() if number == 0 else nullcontext():
            estimate = loaded.estimate(batch, [number])
            gradient = ProjectedGradient(torch.tensor([number]), estimate.values.cpu(), 1)
            optimizer.step(gradient=gradient)
        peaks.append(peak_memory())
    # Only now, as the estimate needs memory of its own.
    parts = estimate_memory(module(), Batches(batch, None, ""), base)
    return {
        "name": f"{folder.name}, {perturber}",
        "base": base,
        "stored": parts.weights,
        "loading": loading,
        "resident": resident,
        "first_step": peaks[0],
        "step": peaks[-1],
        "measured": max(loading, *peaks),
        "estimate": parts.total,
        "activations": max(parts.step, parts.update),
        "above_weights": max(peaks) - base - parts.weights,
    }


def tokens(source: ModelSource, length: int) -> PromptBatch:
    """One row of random tokens, scored for two answers at its end."""
    vocabulary = source.load_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    return PromptBatch(
        input_ids=torch.randint(0, vocabulary, (1, length), generator=generator),
        attention_mask=torch.ones(1, length, dtype=torch.int64),
        answer_positions=torch.full((1, 1), length - 1),
        answer_ids=torch.tensor([[10], [20]]),
        labels=torch.zeros(1, dtype=torch.int64),
    )


@torch.no_grad()
def measure_compiler(perturber: str) -> dict[str, int]:
    """Resident bytes before and after the kernels of a step are compiled, on a tiny model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    source = ModelSource("none")
    module = ZeroOrderModule(source, Int4(64), PERTURBERS[perturber])
    module.adopt(LlamaForCausalLM(config).to(torch.bfloat16).eval())
    module.network.eval()
    ids = torch.zeros(1, 8, dtype=torch.int64)
    trim()  # what making the model has left free must not hide what compiling takes
    before = resident_memory()
    reset_peak_memory()
    batch = PromptBatch(
        ids,
        torch.ones_like(ids),
        torch.tensor([[7]]),
        torch.tensor([[10], [20]]),
        torch.zeros(1, dtype=torch.int64),
    )
    estimate = module.estimate(batch, [0])
    optimizer = ZOSGD(module.weights, lr=1e-9)
    optimizer.step(gradient=ProjectedGradient(torch.tensor([0]), estimate.values, 1))
    return {"peak": peak_memory() - before, "left": resident_memory() - before}


def compile_once(perturber: str, cold: bool) -> str:
    """What `measure_compiler` finds in a process of its own, with the compiler cache or none."""
    command = [sys.executable, __file__, "--one", "--compiler", "--perturber", perturber]
    with tempfile.TemporaryDirectory() as empty:
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": empty} if cold else None
        return spawn(command, environment)[0].strip()


def trim() -> None:
    """Give freed memory back to the system, where the C library can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def show(rows: list[dict[str, Any]], columns: list[str]) -> None:
    """Print a table in MB."""
    table = Table(box=None)
    table.add_column("")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("estimate / measured", justify="right")
    for row in rows:
        sizes = [f"{row[column] / 1e6:.0f}" for column in columns]
        table.add_row(row["name"], *sizes, f"{row['estimate'] / row['measured']:.3f}")
    Console(width=140).print(table)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", nargs="*", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batches", type=int, default=3, help="of validation, and of each test")
    parser.add_argument("--more", nargs="*", default=[], help="options of zolit, as name=value")
    parser.add_argument("--folder", type=Path, help="a checkpoint to load in int4")
    parser.add_argument("--perturber", choices=list(PERTURBERS), nargs="*", default=["codes"])
    parser.add_argument("--group", type=int, default=128, help="group size of the codes")
    parser.add_argument("--symmetric", action="store_true", help="codes without zero points")
    parser.add_argument("--length", type=int, default=256, help="tokens of the row")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compiler", action="store_true")
    parser.add_argument("--json", type=Path, help="file for one JSON line a row")
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if arguments.one:
        kind = arguments.perturber[0]
        if arguments.compiler:
            print(json.dumps(measure_compiler(kind)))
        else:
            quantizer = Int4(arguments.group, arguments.symmetric)
            row = measure_folder(arguments.folder, kind, quantizer, arguments.length)
            print(json.dumps(row))
        return
    if arguments.compiler:
        for kind in arguments.perturber:
            for cache in ("cold", "warm"):
                said = compile_once(kind, cache == "cold")
                print(kind, cache, said)
        return
    if arguments.folder:
        command = [sys.executable, __file__, "--one", "--folder", str(arguments.folder)]
        command += ["--group", str(arguments.group), "--length", str(arguments.length)]
        command += ["--symmetric"] if arguments.symmetric else []
        for kind in arguments.perturber:
            said, _ = spawn([*command, "--perturber", kind])
            rows.append(json.loads(said.splitlines()[-1]))
        columns = ["base", "stored", "loading", "resident", "first_step", "step", "measured"]
        show(rows, [*columns, "activations", "above_weights", "estimate"])
    more = [f"--{one}" for one in arguments.more]
    for config in arguments.configs:
        rows.append(measure_recipe(config, arguments.steps, arguments.batches, more))
        print(rows[-1], flush=True)
    if arguments.configs:
        show(rows, ["estimate", "measured"])
    if arguments.json:
        text = "".join(json.dumps(row) + "\n" for row in rows)
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
