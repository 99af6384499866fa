"""Cuts a calibration text into windows: sequences of tokens that a model runs on separately."""

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
    """A sequence of tokens that a model runs on.

    Attributes:
        ids: ``[length]`` int64 token ids.
        start: index of the first token whose prediction counts in the loss; at least 1, since the
            first token of a window is not predicted.
    """

    ids: Tensor
    start: int = 1


def windows_of_text(file: Path, tokenizer: Any, samples: int, length: int) -> Tensor:
    """Windows from the beginning of a text file, one after another.

    Args:
        file: text in UTF-8.
        tokenizer: of transformers.
        samples: number of windows.
        length: tokens of a window.

    Returns:
        ``[samples, length]`` token ids.

    Raises:
        UserError: if the file cannot be read, or is too short.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _unreadable(file, error) from error
    # No language has as many as 32 characters a token on average: this much text is enough.
    ids = tokenizer(text[: 32 * samples * length], return_tensors="pt").input_ids[0]
    if len(ids) < samples * length:
        raise UserError(
            f"text {str(file)!r} has {len(ids)} tokens, but samples={samples} windows of "
            f"length={length} need {samples * length}; lower samples or length, or give a longer "
            "text"
        )
    return ids[: samples * length].view(samples, length)


def strided_windows(ids: Tensor, length: int, stride: int) -> list[Window]:
    """Windows of a text in which each token but the first is predicted once.

    Each window begins ``stride`` tokens after the one before. Its first tokens, which that one held
    too, are only read: they are the context of those that follow. With a stride of the whole length
    the first token of each window is not predicted either. The last window may be shorter.

    Args:
        ids: ``[tokens]`` int64 of the whole text.
        length: most tokens of a window, at least 2.
        stride: from 1 to ``length``.

    Example:
        >>> [(one.ids.tolist(), one.start) for one in strided_windows(torch.arange(7), 4, 2)]
        [([0, 1, 2, 3], 1), ([2, 3, 4, 5], 2), ([4, 5, 6], 2)]
    """
    found: list[Window] = []
    known = 0
    for begin in range(0, len(ids), stride):
        end = min(begin + length, len(ids))
        window = Window(ids[begin:end], max(known - begin, 1))
        if window.start < len(window.ids):
            found.append(window)
        known = end
        if end == len(ids):
            break
    return found


def whole_text(file: Path) -> str:
    """The text of a file: of JSON lines the fields ``text``, one behind the other.

    Raises:
        UserError: if the file cannot be read or has no such field.
    """
    if file.name.endswith(_JSON_LINES):
        return "".join(_documents(file))
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise _unreadable(file, error) from error


def windows_of_documents(
    file: Path, tokenizer: Any, samples: int, length: int, seed: int
) -> Tensor:
    """One window at a random place of each of the first documents that are long enough.

    Documents are taken in the order of the file; those of C4 are shuffled already. The code that
    SensZOQ computes its gradients with (SqueezeLLM-gradients) draws documents at random instead.

    Args:
        file: JSON lines with a field ``text``, as C4's files, perhaps compressed by gzip.
        tokenizer: of transformers.
        samples: number of windows.
        length: tokens of a window; shorter documents are passed over.
        seed: of the places of the windows in their documents.

    Returns:
        ``[samples, length]`` token ids.

    Raises:
        UserError: if the file cannot be read, has another form, or too few such documents.
    """
    generator = torch.Generator().manual_seed(seed)
    found: list[Tensor] = []
    for document in _documents(file):
        # verbose=False, or it would warn of documents that are longer than the model's context.
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


def drawn_windows(file: Path, tokenizer: Any, samples: int, length: int, seed: int) -> list[Window]:
    """Windows of a text file that a seed draws: of JSON lines by `windows_of_documents`.

    Of plain text the tokens are cut into windows, one after another, and some of these are drawn,
    each at most once.

    Arguments are those of `windows_of_documents`.

    Raises:
        UserError: if the file cannot be read, or is too short.
    """
    if file.name.endswith(_JSON_LINES):
        return [Window(one) for one in windows_of_documents(file, tokenizer, samples, length, seed)]
    ids = tokenizer(whole_text(file), return_tensors="pt", verbose=False).input_ids[0]
    each = ids[: len(ids) // length * length].view(-1, length)
    if len(each) < samples:
        raise UserError(
            f"text {str(file)!r} has {len(ids)} tokens, but samples={samples} windows of "
            f"length={length} need {samples * length}; lower samples or length, or give a longer "
            "text"
        )
    order = torch.randperm(len(each), generator=torch.Generator().manual_seed(seed))
    return [Window(one) for one in each[order[:samples]]]


def windows_of_file(
    file: Path, tokenizer: Any, samples: int, length: int, seed: int
) -> list[Window]:
    """Windows of a text file: of JSON lines by `windows_of_documents`, else by `windows_of_text`.

    Arguments are those of `windows_of_documents`.
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
