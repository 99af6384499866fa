"""A run as one small file: its base model, its recipe and its steps.

The file is a zip archive of two or three members: ``delta.json`` names the base model, and
``journal.bin`` is the journal up to the published step, with the recipe in its header; of a run
that keeps the choice of its mask ``mask.safetensors`` is that. Nothing in it is executed,
and no member is extracted to a path that the file names.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from zolit.errors import UserError
from zolit.files import replacing
from zolit.runs.journal.format import check_bytes, checksum, encode, encode_header
from zolit.runs.journal.records import Header, Record

VERSION = 1
_FACTS, _JOURNAL, _MASK = "delta.json", "journal.bin", "mask.safetensors"
_MOST = {_FACTS: 1 << 20, _JOURNAL: 1 << 30, _MASK: 1 << 32}
"""Most bytes of a member."""


@dataclass(frozen=True)
class Delta:
    """The entries of a published file besides its journal.

    Attributes:
        version: of the format.
        source: of the base model; of a local folder only its name.
        steps: number of steps that the weights have made.
        digest: hex `combined_digest` of the tuned weights after these steps.
        summary: figures of the run, for the model card.
        journal: hex SHA-256 of the journal.
    """

    version: int
    source: dict[str, Any]
    steps: int
    digest: str
    summary: dict[str, Any]
    journal: str


def journal_bytes(header: Header, records: Iterable[Record]) -> bytes:
    """The bytes of a journal file."""
    chain = 0
    parts = []
    for data in (encode_header(header), *map(encode, records)):
        chain = checksum(data, chain)
        parts += [data, check_bytes(chain)]
    return b"".join(parts)


def sha256(data: bytes) -> str:
    """Hex SHA-256."""
    return hashlib.sha256(data).hexdigest()


def write_delta(file: Path, delta: Delta, journal: bytes, mask: bytes = b"") -> None:
    """Write a new file; it is there as a whole or not at all.

    Args:
        file: its place.
        delta: what it says.
        journal: `journal_bytes`.
        mask: the choice that the run keeps (`zolit.strategies.mask.kept`); empty for none.

    Raises:
        UserError: if there is one of that name, or it cannot be written.
    """
    if file.exists():
        raise UserError(f"--to: there is a {str(file)!r} already; name another file")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(file) as scratch,
            zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        ):
            for name, data in (
                (_FACTS, json.dumps(asdict(delta), indent=1, sort_keys=True).encode()),
                (_JOURNAL, journal),
                (_MASK, mask),
            ):
                if not data:
                    continue
                # Without the time, so that the same run gives the same bytes.
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise UserError(
            f"--to: {str(file)!r} cannot be written ({error.strerror or error}); name another file"
        ) from error


def read_delta(file: Path) -> tuple[Delta, bytes, bytes]:
    """Read the entries of a published file, its journal, and the choice of its mask, if it has one.

    Raises:
        UserError: if the file is missing, damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            there = sorted(one.filename for one in members)
            if there not in (sorted((_FACTS, _JOURNAL)), sorted(_MOST)):
                names = ", ".join(one.filename for one in members[:5])
                raise _damaged(file, f"it holds {names}, expected {_FACTS} and {_JOURNAL} alone")
            found = {one.filename: _member(archive, one, file) for one in members}
    except OSError as error:
        raise UserError(
            f"apply: {str(file)!r} cannot be read ({error.strerror or error}); give a file that "
            "zolit publish wrote"
        ) from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError) as error:
        raise _damaged(file, str(error)) from error
    except (EOFError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise _damaged(file, str(error)) from error
    except Exception as error:  # zlib has an exception of its own for bytes it cannot unpack
        raise _damaged(file, str(error)) from error
    delta = _facts(found[_FACTS], file)
    if sha256(found[_JOURNAL]) != delta.journal:
        raise _damaged(file, "its journal has another SHA-256 than it says")
    return delta, found[_JOURNAL], found.get(_MASK, b"")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: Path) -> bytes:
    """A member's bytes; no more are unpacked than the table of the archive declares."""
    if info.file_size > _MOST[info.filename]:
        raise _damaged(file, f"its {info.filename} is too large")
    with archive.open(info) as member:
        return member.read(info.file_size)


def _facts(data: bytes, file: Path) -> Delta:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(file, f"its {_FACTS} is not JSON") from error
    types = {one.name: one.type for one in fields(Delta)}
    if not isinstance(found, dict) or set(found) != set(types):
        raise _damaged(file, f"its {_FACTS} lacks a field or has another one")
    for name, kind in types.items():
        if type(found[name]) is not (kind if isinstance(kind, type) else dict):
            raise _damaged(file, f"the field {name} of its {_FACTS} has another type")
    if found["version"] != VERSION:
        raise UserError(
            f"apply: {str(file)!r} has format version {found['version']}, this zolit reads version "
            f"{VERSION}; use the zolit that wrote it"
        )
    return Delta(**found)


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(
        f"apply: {str(file)!r} is no whole file of zolit publish ({reason}); get it again"
    )
