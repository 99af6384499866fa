"""What a step on scales needs above inference with the same stored weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from gguf_folders import write_llama
from quantized_folders import quantized_llama

from zolit.memory.batches import Batches, prompts
from zolit.memory.estimate import estimate_memory
from zolit.models.source import ModelSource
from zolit.strategies import ScalePerturber, Stored
from zolit.training.zero_order import ZeroOrderModule

CHUNK = 16 << 10
FLOAT = 4


def checkpoint(kind: str) -> Callable[[Path], ModelSource]:
    def write(folder: Path) -> ModelSource:
        quantized_llama(folder, kind)
        return ModelSource(str(folder))

    return write


@pytest.mark.parametrize("granularity", ["row", "group"])
@pytest.mark.parametrize(
    "write",
    [write_llama, checkpoint("4 bits"), checkpoint("8 bits"), checkpoint("2x8")],
    ids=["GGUF", "GPTQ 4", "GPTQ 8", "AQLM"],
)
def test_a_float_for_each_scale_and_one_chunk(
    write: Callable[[Path], ModelSource], granularity: Literal["row", "group"], tmp_path: Path
) -> None:
    perturber = ScalePerturber(1e-2, granularity=granularity)
    module = ZeroOrderModule(write(tmp_path), Stored(), perturber, kernels="compiled")
    module.reading.workspace.chunk_bytes = CHUNK
    # A step reads both signs of its direction in one pass of twice the rows.
    found = estimate_memory(module, Batches(prompts(4, 24), prompts(8, 24), ""), base=0)
    scales = found.scales  # float32, those of zero points among them
    chunk = max(CHUNK, 4 * FLOAT * 256)  # two versions of a row of any layer here
    assert found.feedback == 0
    assert max(found.step, found.update) + found.workspace <= found.evaluation + scales + chunk
