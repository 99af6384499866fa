"""Export a run in every format and compare what other tools make of it with zolit.

    python benchmarks/export.py RUN --formats torchao gguf gguf:Q8_0 [--llama PYTHON]

For each format: seconds and MB of the export, and the logits of a few sentences as transformers
computes them from the folder beside zolit's own from the checkpoint: the largest difference, as a
part of the largest logit, and how often the likeliest next token is the same. ``--llama`` names the
interpreter of an environment with llama-cpp-python; a GGUF file is then loaded there too, and text
is tokenized with it and with transformers.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import numpy as np
import torch
import transformers as hf

from zolit.export.run import export
from zolit.recipes.parts import module_of
from zolit.runs.finished import checkpoint_file, load_checkpoint
from zolit.runs.folder import RunFolder

TEXTS = [
    "The film is a triumph of style over substance, and none the worse for it.",
    "Review: dull, 2 hours too long, and it doesn't end.\nSentiment:",
    "  In 1987 she moved\tto Zürich;\n\n there, 日本語 and 12345 other things happened.",
    "<|im_start|>user\nWhat is 17 + 25?<|im_end|>\n<|im_start|>assistant\n",
]

LLAMA = """
import json, sys
import numpy as np
import llama_cpp.llama_cpp as c
defaults = c.llama_model_default_params
def plain():
    # Weights repacked for AMX end the process in llama-cpp-python 0.3.36.
    params = defaults()
    params.use_extra_bufts = False
    return params
c.llama_model_default_params = plain
from llama_cpp import Llama
job = json.load(open(sys.argv[1]))
model = Llama(job["file"], logits_all=True, verbose=False, n_ctx=256, n_threads=1,
              n_threads_batch=1)
found = {}
for number, (text, ids) in enumerate(zip(job["texts"], job["ids"])):
    model.reset()
    model.eval(ids)
    found[str(number)] = np.array(model.scores[: len(ids)])
    same = model.tokenize(text.encode(), add_bos=True, special=True) == ids
    print("tokens equal" if same else f"other tokens for {text!r}")
np.savez(job["out"], **found)
"""


def logits(model: Any, ids: list[list[int]]) -> list[np.ndarray]:
    """``[T, V]`` of each sentence."""
    with torch.no_grad():
        return [model(input_ids=torch.tensor([one])).logits[0].float().numpy() for one in ids]


def compared(found: list[np.ndarray], expected: list[np.ndarray]) -> str:
    largest = max(np.abs(one).max() for one in expected)
    pairs = list(zip(found, expected, strict=True))
    error = max(np.abs(a - b).max() for a, b in pairs) / largest
    mean = np.concatenate([np.abs(a - b).mean(1) for a, b in pairs]).mean() / largest
    same = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in pairs]).mean()
    return f"largest difference {error:.2e}, mean {mean:.2e}, same next token {same:.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--formats", nargs="+", default=["safetensors", "torchao", "gguf"])
    parser.add_argument("--llama", help="interpreter with llama-cpp-python")
    given = parser.parse_args()
    folder = RunFolder(given.run)
    module = module_of(folder.config.read_text(encoding="utf-8"))
    load_checkpoint(module, checkpoint_file(folder, None, "export"))
    tokenizer = module.source.load_tokenizer()
    ids = [tokenizer(text)["input_ids"] for text in TEXTS]
    expected = logits(module.network.eval(), ids)
    for name in given.formats:
        kind, _, block = name.partition(":")
        with tempfile.TemporaryDirectory() as scratch:
            to = Path(scratch) / "model"
            started = time.perf_counter()
            export(given.run, to, kind, None, block or None)
            seconds = time.perf_counter() - started
            size = sum(file.stat().st_size for file in to.rglob("*") if file.is_file())
            options: dict[str, Any] = {"dtype": module.network.dtype}
            if kind == "gguf":
                options = {"gguf_file": "model.gguf", "dtype": torch.float32}
            started = time.perf_counter()
            model = hf.AutoModelForCausalLM.from_pretrained(to, **options)
            loading = time.perf_counter() - started
            print(f"{name}: exported in {seconds:.1f} s, {size / 1e6:.1f} MB")
            print(f"  transformers, loaded in {loading:.1f} s: ", end="")
            print(compared(logits(model, ids), expected))
            if kind == "gguf" and given.llama:
                job = {"file": str(to / "model.gguf"), "texts": TEXTS, "ids": ids}
                job["out"] = str(Path(scratch) / "logits.npz")
                (Path(scratch) / "job.json").write_text(json.dumps(job), encoding="utf-8")
                command = [given.llama, "-c", LLAMA, str(Path(scratch) / "job.json")]
                done = subprocess.run(command, capture_output=True, text=True, timeout=600)  # noqa: S603
                if done.returncode:
                    print(f"  llama.cpp: exit code {done.returncode}: {done.stderr[-400:]}")
                    continue
                there = np.load(job["out"])
                found = [there[str(number)] for number in range(len(ids))]
                print(f"  llama.cpp: {compared(found, expected)}")
                print(f"  llama.cpp: {', '.join(sorted(set(done.stdout.strip().splitlines())))}")


if __name__ == "__main__":
    main()
