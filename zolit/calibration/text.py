"""Windows of a calibration text."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from zolit.errors import UserError

_JSON_LINES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")


@dataclass(frozen=True)
class Window:
    """Tokens that a model runs on by themselves.

    Attributes:
        ids: ``[length]`` int64 token ids.
        start: the first token whose prediction counts in a loss, at least 1: nothing predicts the
            token before it.
    """

    ids: Tensor
    start: int = 1


def windows_of_text(file: Path, tokenizer: Any, samples: int, length: int) -> Tensor:
    """``[samples, length]`` token ids from the beginning of a text file.

    Raises:
        UserError: if the file is not there or too short.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _unreadable(file, error) from error
    # A token has fewer than 32 characters on average in any language.
    ids = tokenizer(text[: 32 * samples * length], return_tensors="pt").input_ids[0]
    if len(ids) < samples * length:
        raise UserError(
            f"text {str(file)!r} has {len(ids)} tokens, but samples={samples} windows of "
            f"length={length} need {samples * length}; lower samples or length, or give a longer "
            "text"
        )
    return ids[: samples * length].view(samples, length)


def windows_of_documents(
    file: Path, tokenizer: Any, samples: int, length: int, seed: int
) -> Tensor:
    """``[samples, length]`` token ids: one window at a random place of each document long enough.

    The documents are taken in the order of the file, which C4 has shuffled. SqueezeLLM-gradients,
    which SensZOQ takes its gradients from, draws the documents as well.

    Args:
        file: JSON lines with a field ``text`` (C4's form), perhaps compressed by gzip.
        tokenizer: of transformers.
        samples: how many documents.
        length: tokens of a window; a document has at least so many.
        seed: of the places.

    Raises:
        UserError: if the file is not there, not of this form, or has too few such documents.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for document in _documents(file):
        # verbose=False: it would warn of documents that are longer than the model's context.
        ids = tokenizer(document, return_tensors="pt", verbose=False).input_ids[0]
        if len(ids) < length:
            continue
        place = int(torch.randint(len(ids) - length + 1, (1,), generator=generator))
        found.append(ids[place : place + length])
        if len(found) == samples:
            return torch.stack(found)
    raise UserError(
        f"text {str(file)!r} has {len(found)} documents of length={length} tokens or more, but "
        f"samples={samples} windows need as many; lower samples or length"
    )


def windows_of_file(
    file: Path, tokenizer: Any, samples: int, length: int, seed: int
) -> list[Window]:
    """Windows of a text file, whichever form it has.

    JSON lines are read as `windows_of_documents` does, any other file as one text
    (`windows_of_text`).
    """
    if file.name.endswith(_JSON_LINES):
        ids = windows_of_documents(file, tokenizer, samples, length, seed)
    else:
        ids = windows_of_text(file, tokenizer, samples, length)
    return [Window(one) for one in ids]


def _documents(file: Path) -> Iterator[str]:
    number = 0
    try:
        with _opened(file) as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line) if line.strip() else {"text": ""}
                if not isinstance(row, dict) or not isinstance(row.get("text"), str):
                    raise UserError(
                        f"text {str(file)!r} has no field 'text' in line {number}; give JSON lines "
                        "with one, as C4's files, or plain text in a file named .txt"
                    )
                yield row["text"]
    except json.JSONDecodeError as error:
        raise UserError(
            f"text {str(file)!r} is no JSON in line {number} ({error.msg}); give an object with a "
            "field 'text' a line, as C4's files, or plain text in a file named .txt"
        ) from error
    except (OSError, EOFError) as error:
        raise _unreadable(file, error) from error


def _opened(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8", errors="replace")
    return file.open(encoding="utf-8", errors="replace")


def _unreadable(file: Path, error: OSError | EOFError) -> UserError:
    return UserError(
        f"text must be a file of calibration text, got {str(file)!r} "
        f"({getattr(error, 'strerror', None) or error}); give plain text, a document a line"
    )
