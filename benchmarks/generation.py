"""Reading answers off a quantized model and writing them, beside transformers on plain floats.

    python benchmarks/generation.py --sst2 data/sst2/stsa.binary.train
        --squad data/squad/train-v1.1.json [--dtype float32] [--rows 1000] [--answers 100]

Two parts, each in one process and one run:

- scoring: rows of SST-2 by MeZO's prompt, the likelier of two words. zolit scores them as
  ``zolit test`` does; the plain model makes the logits of the last position of the same batches
  (``logits_to_keep=1``);
- writing: answers to SQuAD by greedy decoding. zolit writes them as ``zolit test`` does; the plain
  model by transformers' ``generate(do_sample=False)`` from the same padded prompts, as many tokens.

The plain model is in bfloat16, and in float32 beside it, which many processors multiply faster.
Each batch runs on all models in turn before the next one, so that a change of the machine's mood
meets all alike. A turn is a pass over all batches; the first is left out. Ratios are medians over
turns of the ratio within a turn.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from smollm2 import SOURCE
from torch import nn

from zolit.datamodules import (
    BenchmarkRows,
    FileRows,
    GenerationTask,
    PromptDataModule,
    RowSource,
)
from zolit.models.loading.load import load_model
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.decoding import find_decoder
from zolit.objectives.option_scoring import OptionScoring
from zolit.objectives.prompt_batch import PromptBatch
from zolit.quiet import quiet_libraries
from zolit.strategies import Int4, Int8, Quantizer, ScalePerturber
from zolit.training.dtype import DTYPES
from zolit.training.zero_order import ZeroOrderModule

QUANTIZERS: dict[str, Quantizer] = {"Int8": Int8(), "Int4": Int4(64)}
PLAIN = ("bfloat16", "float32")


@dataclass
class Entry:
    """One model with what it does to a batch.

    Attributes:
        name: of the row.
        call: does the work on a batch; returns how many tokens or answers it made.
        seconds: of each turn.
        made: of the last turn.
    """

    name: str
    call: Callable[[Any], int]
    seconds: list[float] = field(default_factory=list)
    made: int = 0


def measure(entries: Sequence[Entry], batches: Sequence[Any], turns: int) -> None:
    """Time all entries on all batches, batch by batch; one turn more warms up."""
    for turn in range(turns + 1):
        sums, made = [0.0] * len(entries), [0] * len(entries)
        for batch in batches:
            for number, entry in enumerate(entries):
                start = time.perf_counter()
                made[number] += entry.call(batch)
                sums[number] += time.perf_counter() - start
        for entry, seconds, count in zip(entries, sums, made, strict=True):
            if turn:
                entry.seconds.append(seconds)
            entry.made = count


def prompts(task: Any, rows: Any, count: int, size: int, **options: Any) -> list[Any]:
    """Batches of the first test rows of a task, in order of length."""
    data = PromptDataModule(
        task,
        rows,
        SOURCE,
        train_size=1,
        validation_size=0,
        test_size=count,
        eval_batch_size=size,
        **options,
    )
    data.setup("test")
    return list(data.test_dataloader())


def squad(file: Path, most: int) -> tuple[RowSource, GenerationTask]:
    """Rows of SQuAD as published, or in a list with context, question and answer."""
    flat = file.read_text(encoding="utf-8").lstrip().startswith("[")
    rows = FileRows(str(file)) if flat else BenchmarkRows(str(file), form="squad")
    template = "Context: {context}\nQuestion: {question}\nAnswer:"
    return rows, GenerationTask(template, most, label="answer" if flat else "text")


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Numbers of the tokens of rows that are padded on the left."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def plain_scoring(model: Any) -> Callable[[PromptBatch], int]:
    """Logits of the answers at the last position."""

    @torch.no_grad()
    def call(batch: PromptBatch) -> int:
        logits = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=positions(batch.attention_mask),
            use_cache=False,
            logits_to_keep=1,
        ).logits
        return len(logits[:, -1, batch.answer_ids[:, 0]].argmax(dim=1))

    return call


def scoring(model: nn.Module) -> Callable[[PromptBatch], int]:
    """Scores as `OptionScoring` makes them."""
    objective = OptionScoring()
    objective.try_out(model)

    @torch.no_grad()
    def call(batch: PromptBatch) -> int:
        return len(objective.scores(model, batch).argmax(dim=1))

    return call


def plain_writing(model: Any, most: int) -> Callable[[AnswerBatch], int]:
    """``generate`` of transformers."""
    end = model.generation_config.eos_token_id

    def call(batch: AnswerBatch) -> int:
        ids, mask = batch.prompts()
        found = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=most,
            max_new_tokens=most,
            pad_token_id=end[0] if isinstance(end, list) else end,
        )
        return int(found[:, ids.shape[1] :].numel())

    return call


def writing(model: Any, most: int) -> Callable[[AnswerBatch], int]:
    """Answers as `Decoder` writes them; no token ends one, so that all have the same length."""
    decoder = find_decoder(model)
    model.generation_config.eos_token_id = None

    def call(batch: AnswerBatch) -> int:
        return sum(map(len, decoder.write(model, *batch.prompts(), most)))

    return call


def quantized(quantizer: Quantizer, dtype: str, compiled: bool) -> nn.Module:
    """The model on stored weights, as a run loads it."""
    module = ZeroOrderModule(
        SOURCE,
        quantizer,
        ScalePerturber(),
        dtype=dtype,
        compile="blocks" if compiled else "none",
    )
    module.configure_model()
    return module.network.eval()


def table(title: str, entries: Sequence[Entry], unit: str) -> tuple[Table, list[dict[str, Any]]]:
    """Medians, and ratios to each plain model."""
    shown = Table(title=title, title_justify="left")
    plain = [one for one in entries if one.name.startswith("plain")]
    for name in ("", "seconds", unit, *(f"/ {one.name}" for one in plain)):
        shown.add_column(name, justify="right" if name else "left")
    found = []
    for one in entries:
        ratios = {
            base.name: statistics.median(
                mine / theirs for mine, theirs in zip(one.seconds, base.seconds, strict=True)
            )
            for base in plain
        }
        median = statistics.median(one.seconds)
        shown.add_row(
            one.name, f"{median:.2f}", str(one.made), *(f"{each:.2f}" for each in ratios.values())
        )
        found.append({"part": title, "name": one.name, "seconds": one.seconds, "ratios": ratios})
    return shown, found


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--sst2", type=Path, help="a file of SST-2, 'label text' a line")
    parser.add_argument("--squad", type=Path, help="JSON of SQuAD: as published, or a list")
    parser.add_argument(
        "--dtype", choices=DTYPES, default="bfloat16", help="that zolit computes in"
    )
    parser.add_argument("--rows", type=int, default=1000, help="rows of SST-2 (1000)")
    parser.add_argument("--answers", type=int, default=100, help="answers to SQuAD (100)")
    parser.add_argument("--tokens", type=int, default=20, help="tokens of an answer (20)")
    parser.add_argument("--batch_size", type=int, default=32, help="rows of SST-2 at once (32)")
    parser.add_argument("--answer_batch", type=int, default=32, help="answers at once (32)")
    parser.add_argument("--max_length", type=int, default=512, help="tokens of a prompt (512)")
    parser.add_argument("--turns", type=int, default=5, help="passes that are timed (5)")
    parser.add_argument("--compile", action="store_true", help="zolit's blocks compiled")
    parser.add_argument("--only", nargs="+", choices=QUANTIZERS, default=list(QUANTIZERS))
    parser.add_argument("--json", type=Path, help="file for the figures")
    given = parser.parse_args()
    quiet_libraries()
    if given.sst2 is None and given.squad is None:
        parser.error("name --sst2, --squad or both")
    plain = {name: load_model(SOURCE, DTYPES[name]).eval() for name in PLAIN}
    models = {name: quantized(QUANTIZERS[name], given.dtype, given.compile) for name in given.only}
    parts: list[tuple[str, str, list[Any], list[Entry]]] = []
    if given.sst2 is not None:
        batches = prompts(
            "sst2", FileRows(str(given.sst2), format="lines"), given.rows, given.batch_size
        )
        entries = [Entry(f"plain {name}", plain_scoring(one)) for name, one in plain.items()]
        entries += [Entry(f"{name}, {given.dtype}", scoring(one)) for name, one in models.items()]
        parts.append((f"{given.rows} rows of SST-2 scored", "rows", batches, entries))
    if given.squad is not None:
        rows, task = squad(given.squad, given.tokens)
        options = {"max_length": given.max_length, "truncate": True}
        batches = prompts(task, rows, given.answers, given.answer_batch, **options)
        entries = [
            Entry(f"plain {name}", plain_writing(one, given.tokens)) for name, one in plain.items()
        ]
        entries += [
            Entry(f"{name}, {given.dtype}", writing(one, given.tokens))
            for name, one in models.items()
        ]
        parts.append((f"{given.answers} answers to SQuAD written", "tokens", batches, entries))
    figures = []
    for title, unit, batches, entries in parts:
        measure(entries, batches, given.turns)
        shown, found = table(title, entries, unit)
        figures += found
        Console().print(shown)
    if given.json is not None:
        given.json.write_text(json.dumps({"options": vars(given), "figures": figures}, default=str))


if __name__ == "__main__":
    main()
