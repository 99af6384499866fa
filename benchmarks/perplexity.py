"""Perplexity on WikiText-2 of a model stored by each quantizer: what quantizing costs.

python benchmarks/perplexity.py --text FILE.jsonl --calibration FILE.txt [--saliency FILE]
    [--only NAME ...]

The text is cut into windows that follow one another; every token but the first of a window is
predicted. Quantizers store the linear layers of the blocks; embeddings stay bfloat16.
"""

import argparse
import gc
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import waiting  # noqa: F401
import torch
from smollm2 import SOURCE

from zolit.calibration.text import Window, strided_windows, whole_text
from zolit.datamodules.text import window_batch
from zolit.evaluations.perplexity import window_losses
from zolit.models.loading.load import load_prepared
from zolit.models.prepare import Preparation
from zolit.strategies import (
    GPTQ,
    HQQ,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    ScalePerturber,
    SqueezeLLM,
)
from zolit.strategies.perturber import DensePerturber
from zolit.tensors.reading import Reading
from zolit.tensors.weight import stored_weights


class Given(NamedTuple):
    """What quantizers are calibrated on.

    Attributes:
        text: file of calibration text.
        samples: its windows of 512 tokens.
        saliency: file of a score for every weight, None for none.
    """

    text: str
    samples: int
    saliency: str | None


def gptq(given: Given, **options: Any) -> Quantizer:
    """`GPTQ` on the text, in groups of 64."""
    return GPTQ(given.text, given.samples, 512, 64, **options)


QUANTIZERS: dict[str, Callable[[Given], Quantizer]] = {
    "bfloat16": lambda given: NoQuantizer(),
    "Int8": lambda given: Int8(),
    "Int4, group 64, nearest": lambda given: Int4(64),
    "Int4, group 64, HQQ": lambda given: HQQ(64),
    "SqueezeLLM, 4 bits": lambda given: SqueezeLLM(4),
    "SqueezeLLM, 3 bits": lambda given: SqueezeLLM(3),
    "SqueezeLLM, 4 bits, sensitivity": lambda given: SqueezeLLM(4, given.saliency),
    "SqueezeLLM, 3 bits, sensitivity": lambda given: SqueezeLLM(3, given.saliency),
    "Int4, group 64, GPTQ": gptq,
    "Int4, group 64, GPTQ, act-order": lambda given: gptq(given, act_order=True),
    "Int4, group 64, GPTQ on HQQ's grid": lambda given: gptq(given, grid="half_quadratic"),
    "Int4, group 64, GPTQ on HQQ's grid, act-order": lambda given: gptq(
        given, grid="half_quadratic", act_order=True
    ),
}


def windows(text: Path, length: int, most: int) -> list[Window]:
    """Windows of a file of paragraphs, one JSON object a line, that follow one another."""
    ids = SOURCE.load_tokenizer()(whole_text(text), return_tensors="pt").input_ids[0]
    count = min(most, len(ids) // length)
    return strided_windows(ids[: count * length], length, length)


@torch.no_grad()
def perplexity(model: torch.nn.Module, found: list[Window], batch: int) -> tuple[float, float]:
    """Perplexity and the standard error of its logarithm, over windows."""
    losses = []
    for first in range(0, len(found), batch):
        totals, counts = window_losses(model, window_batch(found[first : first + batch], 0))
        losses.append(totals.double() / counts)
    each = torch.cat(losses)
    return math.exp(each.mean()), (each.std() / math.sqrt(len(each))).item()


def measure(
    name: str, quantizer: Quantizer, ids: list[Window], batch: int
) -> dict[str, float | str]:
    """One row of the table."""
    perturber = ScalePerturber() if quantizer.quantized else DensePerturber()
    started = time.perf_counter()
    preparation = Preparation(quantizer, perturber, Reading(perturber.direction()), ["linear"])
    model, _ = load_prepared(SOURCE, torch.bfloat16, preparation)
    seconds = time.perf_counter() - started
    bits = sum(
        8 * tensor.numel() * tensor.element_size()
        for weight in stored_weights(model)
        for tensor in weight.store.tensors().values()
    ) / sum(weight.store.rows * weight.store.columns for weight in stored_weights(model))
    value, error = perplexity(model, ids, batch)
    row: dict[str, float | str] = {
        "weights": name,
        "bits": round(bits, 2),
        "perplexity": round(value, 3),
        "standard error of log": round(error, 4),
        "loading, s": round(seconds, 1),
    }
    return row


def main() -> None:
    """Print JSON lines, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--calibration", required=True, help="text, a document a line")
    parser.add_argument("--saliency", help="file of a score for every weight (zolit saliency)")
    parser.add_argument("--samples", type=int, default=64, help="windows of calibration text")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--windows", type=int, default=10**6)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=QUANTIZERS, default=list(QUANTIZERS))
    options = parser.parse_args()
    given = Given(options.calibration, options.samples, options.saliency)
    ids = windows(options.text, options.length, options.windows)
    rows = []
    for name in options.only:
        if "sensitivity" in name and given.saliency is None:
            print(f"{name}: left out, it takes --saliency", flush=True)
            continue
        rows.append(measure(name, QUANTIZERS[name](given), ids, options.batch))
        print(json.dumps(rows[-1]), flush=True)
        gc.collect()
    print("| " + " | ".join(rows[0]) + " |")
    print("|---" * len(rows[0]) + "|")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row.values()) + " |")


if __name__ == "__main__":
    main()
