"""What a step costs: every recipe beside plain forwards, in one process and one run.

    OMP_NUM_THREADS=2 python benchmarks/step.py --json step.jsonl

Baselines:

- ``two bf16 forwards``: transformers as it is, the same loss, batch and answer positions;
- ``two float32 forwards``: the same in float32, which many processors multiply faster;
- ``two torchao int8 forwards``: the same after ``quantize_(model, Int8WeightOnlyConfig())``;
- ``MeZO as published``: Algorithm 1 of arXiv 2305.17333, four sweeps of ``torch.normal`` over all
  parameters and two forwards;
- ``matrix products``: the linear layers' products alone on the doubled batch in bf16, the floor.

Repeats are interleaved, so that a change of the machine's mood meets all rows alike, and medians
are taken. ``decode`` is the time to read all tuned weights perturbed, measured alone (as floats,
also for W8A8, which perturbs codes instead); ``forward`` is the rest of the estimate. ``above
weights`` is the peak of the resident set during one step above what is resident before it, with
the reused buffers.
"""

import argparse
import copy
import ctypes
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from smollm2 import SOURCE
from torch import Tensor, nn

from zolit.allocator import returning_memory
from zolit.callbacks.peak_memory import peak_memory, reset_peak_memory
from zolit.gradient import ProjectedGradient
from zolit.models.loading.load import load_model
from zolit.models.plan import find_parameters
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.optim import ZOSGD
from zolit.quiet import quiet_libraries
from zolit.strategies import (
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    LowRankPerturber,
    Mask,
    NoQuantizer,
    Perturber,
    Quantizer,
    RandomMask,
    ScalePerturber,
    SparsePerturber,
    SqueezeLLM,
)
from zolit.tensors.product import current_versions
from zolit.tensors.weight import PerturbedWeight
from zolit.training.dtype import DTYPES
from zolit.training.zero_order import ZeroOrderModule

# hidden, intermediate, layers, heads, key-value heads, vocabulary
SHAPES = {
    "135m": (576, 1536, 30, 9, 3, 49152),
    "360m": (960, 2560, 32, 15, 5, 49152),
    "1.1b": (2048, 5632, 22, 32, 4, 32000),
    "7b": (4096, 11008, 32, 32, 32, 32000),
}

CODES = CodePerturber(1.0, distribution="rademacher")
RECIPES: dict[str, tuple[Quantizer, Perturber]] = {
    "MeZO dense, gaussian": (NoQuantizer(), DensePerturber(1e-3, "gaussian")),
    "MeZO dense, rademacher": (NoQuantizer(), DensePerturber(1e-3, "rademacher")),
    "QuZO int8": (Int8(), CODES),
    "QuZO int8, gaussian 4 bits": (Int8(), CodePerturber(1.0)),
    "QuZO int4": (Int4(64), CODES),
    "QuZO float8": (Float8(), CODES),
    "QuZO W8A8": (Int8(activations="int8"), CODES),
    "scales of int8": (Int8(), ScalePerturber(1e-2)),
    "scales of int4": (Int4(64), ScalePerturber(1e-2)),
    "rank 1 of bf16": (NoQuantizer(), LowRankPerturber()),
    "rank 1 of int8": (Int8(), LowRankPerturber()),
    "rank 1 of int4": (Int4(64), LowRankPerturber()),
    "SensZOQ int4": (Int4(64), SparsePerturber()),
    "SensZOQ SqueezeLLM": (SqueezeLLM(4), SparsePerturber()),
}
MASKS: dict[str, Mask] = {name: RandomMask(1e-3) for name in RECIPES if name.startswith("SensZOQ")}
"""Of recipes that have one; where entries lie makes no difference to their cost."""


@dataclass
class Entry:
    """One row: what is timed, and what was measured.

    Attributes:
        name: of the row.
        step: one whole step.
        parts: ``decode`` and ``update`` alone, where there are such.
        times: milliseconds of each call of the step and of each part, by name.
        buffers: bytes of the reused buffers, which stay resident between steps.
        above: bytes above the stored weights at the peak of a step.
    """

    name: str
    step: Callable[[], object]
    parts: dict[str, Callable[[], object]] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    buffers: Callable[[], int] = int
    above: int = 0

    def measure(self) -> None:
        """Time each part once."""
        for name, call in {"step": self.step, **self.parts}.items():
            start = time.perf_counter()
            call()
            self.times.setdefault(name, []).append(1e3 * (time.perf_counter() - start))

    def median(self, name: str) -> float | None:
        """Median milliseconds of a part, None where there is none."""
        return statistics.median(self.times[name]) if name in self.times else None


@dataclass(frozen=True)
class Row:
    """A measured row; times in milliseconds, memory in MB."""

    name: str
    step_ms: float
    to_bf16: float
    to_int8: float
    to_products: float
    forward_ms: float | None
    decode_ms: float | None
    update_ms: float | None
    tokens_per_second: float
    above_weights_mb: float


def load(model: str) -> nn.Module:
    """SmolLM2 from its package, or a Llama of that shape with random weights, in bfloat16."""
    if model == "smollm2":
        return load_model(SOURCE, torch.bfloat16)
    from transformers import AutoModelForCausalLM, LlamaConfig

    hidden, intermediate, layers, heads, key_value_heads, vocabulary = SHAPES[model]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    network: nn.Module = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    return network.eval()


def copied(model: nn.Module, shared: bool) -> nn.Module:
    """A model of its own, around the same weights where a recipe makes codes of them: 7B and its
    codes fit into 24 GiB, two of 7B do not.
    """
    memo = {id(p): p for p in model.parameters()} if shared else {}
    return copy.deepcopy(model, memo)


def make_batch(size: int, length: int) -> PromptBatch:
    """``size`` prompts of ``length`` random tokens with two answers of one token."""
    generator = torch.Generator().manual_seed(0)
    return PromptBatch(
        input_ids=torch.randint(0, 30000, (size, length), generator=generator),
        attention_mask=torch.ones(size, length, dtype=torch.int64),
        answer_positions=torch.full((size, 1), length - 1),
        answer_ids=torch.tensor([[10], [20]]),
        labels=torch.arange(size) % 2,
        options_per_prompt=1,
    )


def forwards(model: nn.Module, batch: PromptBatch) -> Callable[[], object]:
    """Two losses of a plain model."""
    objective = OptionScoring()
    return lambda: (objective.losses(model, batch), objective.losses(model, batch))


def published_mezo(model: nn.Module, batch: PromptBatch) -> Callable[[], object]:
    """MeZO's Algorithm 1: perturb, evaluate, perturb, evaluate, restore, update, all in place."""
    objective, eps, lr = OptionScoring(), 1e-3, 1e-7

    def sweep(seed: int, scale: float) -> None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            z = torch.normal(0.0, 1.0, parameter.shape, dtype=parameter.dtype)
            parameter.add_(z, alpha=scale)

    def step() -> None:
        sweep(0, eps)
        plus = objective.losses(model, batch)
        sweep(0, -2 * eps)
        minus = objective.losses(model, batch)
        sweep(0, eps)
        sweep(0, -lr * float(plus - minus) / (2 * eps))

    return step


def products(model: nn.Module, tokens: int) -> Callable[[], object]:
    """The linear layers' products on ``tokens`` rows, inputs made once."""
    weights = [f.parameter for f in find_parameters(model) if f.kind == "linear"]
    inputs: dict[int, Tensor] = {}
    for weight in weights:
        columns = weight.shape[1]
        if columns not in inputs:
            inputs[columns] = torch.randn(tokens, columns, dtype=weight.dtype)

    def multiply() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    return multiply


def recipe(
    name: str, model: nn.Module, batch: PromptBatch, queries: int, options: dict[str, object]
) -> Entry:
    """A step of zolit: estimate and update."""
    quantizer, perturber = RECIPES[name]
    scheduler, mask = ConstantQueries(queries), MASKS.get(name)
    module = ZeroOrderModule(
        SOURCE, quantizer, perturber, query_scheduler=scheduler, mask=mask, **options
    )
    with returning_memory():  # as `ZeroOrderModule.configure_model` does, for the C library's sake
        module.adopt(model)
    module.network.eval()
    optimizer = ZOSGD(module.weights, lr=1e-9)
    keys = list(range(queries))

    def estimate() -> Tensor:
        return module.estimate(batch, keys).values

    def update() -> None:
        optimizer.step(gradient=ProjectedGradient(torch.tensor(keys), torch.ones(queries), 1))

    def decode() -> None:
        for key in keys:
            with module.reading.perturbed(key, perturber.eps, copies=2):
                for weight in module.weights:
                    read_all(weight)

    def read_all(weight: PerturbedWeight) -> None:
        store, reading = weight.store, module.reading
        versions = current_versions(weight)
        if versions.as_stored and store.floats() is not None:
            return  # multiplied as it lies
        # The buffers of the step itself.
        shape = (store.rows, store.padded_columns)
        dtype = DTYPES[module.dtype_name]
        buffers = reading.workspace.buffers(versions.copies, *shape, dtype, store.device)
        versions.read(store, slice(0, store.rows), buffers.parts, reading.preference)

    def step() -> None:
        estimate()
        update()

    parts = {"decode": decode, "update": update}
    return Entry(name, step, parts, buffers=lambda: module.reading.workspace.bytes)


def peak_above(entry: Entry) -> int:
    """Bytes that one step needs at its peak above what is resident before it."""
    # What earlier steps freed goes back to the system, or the step would not seem to need it.
    ctypes.CDLL(None).malloc_trim(0)
    reset_peak_memory()
    before = peak_memory()
    entry.step()
    return peak_memory() - before + entry.buffers()


def rows(entries: list[Entry], tokens: int) -> list[Row]:
    """Medians and ratios."""
    medians = {entry.name: entry.median("step") or 0.0 for entry in entries}

    def ratio(one: float, name: str) -> float:
        return one / medians[name] if name in medians else float("nan")

    found = []
    for entry in entries:
        whole, decode, update = medians[entry.name], entry.median("decode"), entry.median("update")
        forward = None if decode is None else whole - decode - (update or 0.0)
        found.append(
            Row(
                entry.name,
                whole,
                ratio(whole, "two bf16 forwards"),
                ratio(whole, "two torchao int8 forwards"),
                ratio(whole, "matrix products"),
                forward,
                decode,
                update,
                1e3 * tokens / whole,
                entry.above / 2**20,
            )
        )
    return found


def show(table_rows: list[Row], title: str) -> None:
    """Print the table."""
    table = Table(title=title, box=None, title_justify="left")
    table.add_column("recipe")
    for head in (
        "ms a step", "/ bf16", "/ int8", "/ products", "forward", "decode", "update", "tokens/s",
        "MB above",
    ):  # fmt: skip
        table.add_column(head, justify="right")
    for row in table_rows:
        parts = [
            "" if part is None else f"{part:.0f}"
            for part in (row.forward_ms, row.decode_ms, row.update_ms)
        ]
        ratios = [f"{r:.2f}" for r in (row.to_bf16, row.to_int8, row.to_products)]
        table.add_row(
            row.name,
            f"{row.step_ms:.0f}",
            *ratios,
            *parts,
            f"{row.tokens_per_second:.0f}",
            f"{row.above_weights_mb:.0f}",
        )
    Console(width=120).print(table)


@torch.no_grad()
def main() -> None:
    """Measure the rows asked for and print them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", choices=["smollm2", *SHAPES], default="smollm2")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--length", type=int, default=48, help="tokens of a prompt")
    parser.add_argument("--queries", type=int, default=1)
    parser.add_argument("--threads", type=int, help="by default OMP_NUM_THREADS")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--dtype", choices=list(DTYPES), default="bfloat16", help="of zolit's rows")
    parser.add_argument("--compile", choices=["none", "blocks"], default="none")
    parser.add_argument("--only", nargs="*", help="parts of the names of the rows to measure")
    parser.add_argument("--json", type=Path, help="file for one JSON line a row")
    arguments = parser.parse_args()
    quiet_libraries()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model, batch = load(arguments.model), make_batch(arguments.batch, arguments.length)
    tokens = 2 * arguments.queries * arguments.batch * arguments.length

    def wanted(name: str) -> bool:
        return not arguments.only or any(part in name for part in arguments.only)

    entries = []
    options: dict[str, object] = {"compile": arguments.compile, "dtype": arguments.dtype}
    if wanted("two bf16 forwards"):
        entries.append(Entry("two bf16 forwards", forwards(model, batch)))
    if wanted("two float32 forwards"):
        entries.append(Entry("two float32 forwards", forwards(copy.deepcopy(model).float(), batch)))
    if wanted("two torchao int8 forwards"):
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        int8 = copy.deepcopy(model)
        quantize_(int8, Int8WeightOnlyConfig())
        entries.append(Entry("two torchao int8 forwards", forwards(int8, batch)))
    if wanted("MeZO as published"):
        plain = copy.deepcopy(model)
        entries.append(Entry("MeZO as published", published_mezo(plain, batch)))
    if wanted("matrix products"):
        one_pair = 2 * arguments.batch * arguments.length
        entries.append(Entry("matrix products", products(model, one_pair)))
    for name in filter(wanted, RECIPES):
        shared = RECIPES[name][0].quantized and arguments.dtype == "bfloat16"
        own = copied(model, shared).to(DTYPES[arguments.dtype])
        entries.append(recipe(name, own, batch, arguments.queries, options))
    for entry in entries:
        entry.measure()
        entry.times.clear()
        entry.above = peak_above(entry)
    for _ in range(arguments.repeats):
        for entry in entries:
            entry.measure()
    found = rows(entries, tokens)
    threads = torch.get_num_threads()
    show(
        found,
        f"{arguments.model}, {arguments.batch} x {arguments.length} tokens, "
        f"{arguments.queries} queries, {arguments.dtype}, compile {arguments.compile}, "
        f"{threads} threads, "
        f"medians of {arguments.repeats}",
    )
    if arguments.json:
        text = "".join(json.dumps({**asdict(row), "threads": threads}) + "\n" for row in found)
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
