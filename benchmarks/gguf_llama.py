"""The GGUF files of the tests as llama.cpp computes them, beside transformers' own models.

    python benchmarks/gguf_llama.py PYTHON

PYTHON is the interpreter of an environment with cyllama and numpy. The files are those of
tests/models/gguf_cases.py and test_gguf_positions.py, written by hand, and the exports of
tests/models/gguf_exports.py, all of random weights in float32. Printed is the largest difference of
the logits of 30 tokens, and the largest logit. llama.cpp keeps keys and values in float16.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import waiting  # noqa: F401
import numpy as np
import torch
from torch import nn

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "models"), str(TESTS / "models" / "gguf")]
from gguf_cases import CASES  # noqa: E402
from gguf_exports import FURTHER, MODELS, made_tokenizer, tiny, written  # noqa: E402
from test_gguf_positions import POSITIONS  # noqa: E402

from zolit.strategies import NoQuantizer  # noqa: E402

IDS = 5 + torch.arange(30) * 11 % 90

LLAMA = """
import json, sys
import numpy as np
import cyllama.llama.llama_cpp as c
class Model(c.LlamaModel):
    @property
    def n_vocab(self):  # cyllama 0.2.18 asks for it, and has none
        return int(self.get_vocab().n_vocab)
job = json.load(open(sys.argv[1]))
c.llama_backend_init()
for file in job["files"]:
    model = Model(path_model=file, params=c.LlamaModelParams(), verbose=False)
    params = c.LlamaContextParams()
    params.n_ctx, params.n_threads, params.n_threads_batch = 64, 1, 1
    context = c.LlamaContext(model=model, params=params, verbose=False)
    batch = c.LlamaBatch(n_tokens=len(job["ids"]), embd=0, n_seq_max=1)
    batch.set_batch(job["ids"], n_past=0, logits_all=True)
    context.decode(batch)
    found = [np.array(context.get_logits_ith(n), dtype=np.float32) for n in range(len(job["ids"]))]
    np.save(file + ".npy", np.stack(found))
"""


def logits(model: nn.Module) -> np.ndarray:
    """``[tokens, vocabulary]`` float32."""
    with torch.no_grad():
        return model(input_ids=IDS[None], use_cache=False).logits[0].numpy()


def main() -> None:
    expected: dict[str, tuple[Path, np.ndarray]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, case) in enumerate({**CASES, **POSITIONS}.items()):
            model = case.model()
            file = case.write(Path(scratch) / str(number), model).gguf_path()
            expected[f"by hand: {name}"] = file, logits(model)
        tokenizer = made_tokenizer()
        for number, name in enumerate((*MODELS, *FURTHER)):
            folder, model = Path(scratch) / f"export{number}", tiny(name)
            folder.mkdir()
            there = logits(model)
            written(model, NoQuantizer(), tokenizer, folder)
            expected[f"exported: {name}"] = folder / "model.gguf", there
        job = Path(scratch) / "job.json"
        files = [str(file) for file, _ in expected.values()]
        job.write_text(json.dumps({"files": files, "ids": IDS.tolist()}), encoding="utf-8")
        command = [sys.argv[1], "-c", LLAMA, str(job)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)  # noqa: S603
        if done.returncode:
            sys.exit(f"llama.cpp: exit code {done.returncode}: {done.stderr[-400:]}")
        for name, (file, there) in expected.items():
            found = np.load(f"{file}.npy")
            print(f"{name}: {np.abs(found - there).max():.1e} of {np.abs(there).max():.2f}")


if __name__ == "__main__":
    main()
