"""Windows of a calibration text."""

from pathlib import Path
from typing import Any

from torch import Tensor

from zolit.errors import UserError


def windows_of_text(file: Path, tokenizer: Any, samples: int, length: int) -> Tensor:
    """``[samples, length]`` token ids from the beginning of a text file.

    Raises:
        UserError: if the file is not there or too short.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(
            f"text must be a file of calibration text, got {str(file)!r} ({error.strerror}); give "
            "plain text, a document a line"
        ) from error
    # A token has fewer than 32 characters on average in any language.
    ids = tokenizer(text[: 32 * samples * length], return_tensors="pt").input_ids[0]
    if len(ids) < samples * length:
        raise UserError(
            f"text {str(file)!r} has {len(ids)} tokens, but samples={samples} windows of "
            f"length={length} need {samples * length}; lower samples"
        )
    return ids[: samples * length].view(samples, length)
