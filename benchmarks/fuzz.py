"""Fuzz the readers of files that come from elsewhere, with atheris (coverage-guided).

A reader may refuse (UserError) or read. Anything else that it raises, ten seconds without an end,
two gigabytes of memory, or a program, a connection or a deletion that it starts, ends the fuzzing
with the input that did it.

    pip install atheris     # in an environment of its own beside zolit: CPython 3.11 to 3.13
    python benchmarks/fuzz.py --seconds 150             # of each reader
    python benchmarks/fuzz.py --target journal --seconds 600

``--seeds`` runs the sound examples alone and needs no atheris.
"""

import argparse
import importlib
import io
import json
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SECONDS = 10
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect")
MODULES = {
    "journal": ["zolit.runs.journal.reader", "zolit.runs.journal.format"],
    "checkpoint": [
        "zolit.checkpoints.file",
        "zolit.checkpoints.content",
        "zolit.checkpoints.continuing",
    ],
    "config": ["zolit.recipes.guard", "zolit.commands.given", "zolit.runs.differences"],
    "safetensors": ["zolit.models.loading.shards"],
    "gguf": ["gguf.gguf_reader", "zolit.models.gguf.table", "zolit.models.gguf.header"],
}
Reader = Callable[[bytes], Any]


def in_file(folder: Path, name: str, read: Callable[[Path], Any]) -> Reader:
    """A reader of bytes from a reader of files."""
    path = folder / name

    def run(data: bytes) -> Any:
        path.write_bytes(data)
        return read(path)

    return run


def journal(folder: Path) -> tuple[Reader, list[bytes]]:
    """Bytes as they are, or, after a first byte of 1, parts that are given their checksums."""
    from zolit.runs.journal import (
        Header,
        JournalWriter,
        Position,
        Session,
        Step,
        Weights,
        read_journal,
    )

    path = folder / "journal.bin"
    seed = folder / "seed.bin"
    writer = JournalWriter(seed)
    writer.begin(Header("model: {}\n", {"a.codes": "00"}, "11", {"frozen": "2"}, {}, {}))
    writer.append(Step(0, (0.1,), (3, 5), (0.5, -1.0), 7, Position(0, 1, 1)))
    writer.append(Session(1, {"torch": "9"}))
    writer.append(Weights(1, bytes(16), final=True))
    writer.close()
    sound = read_journal(seed)
    data = seed.read_bytes()
    ends = [0, *sound.offsets]
    parts = [data[a : b - 4] for a, b in pairwise(ends)]
    sealed = b"\x01" + b"".join(struct.pack("<H", len(part)) + part for part in parts)

    def run(data: bytes) -> None:
        if data[:1] == b"\x01":
            data = _sealed(data[1:])
        path.write_bytes(data)
        found = read_journal(path)
        if found.fault is None and data and found.offsets[-1] != len(data):
            raise AssertionError("a part that was neither read nor told")

    return run, [data, sealed]


def _sealed(data: bytes) -> bytes:
    """Parts with their lengths before them, as a file with right checksums."""
    file, chain, place = b"", 0, 0
    while place + 2 <= len(data):
        (length,) = struct.unpack_from("<H", data, place)
        part = data[place + 2 : place + 2 + length]
        place += 2 + length
        chain = zlib.crc32(part, chain)
        file += part + struct.pack("<I", chain)
    return file


def checkpoint(folder: Path) -> tuple[Reader, list[bytes]]:
    """Bytes as a file, or, after a first byte of 1, as the pickle in a sound archive."""
    import torch

    from zolit.checkpoints.file import read_checkpoint

    content = {
        "epoch": 0,
        "global_step": 3,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {"w": torch.arange(3.0)},
        "callbacks": {"ModelCheckpoint": {"dirpath": "x", "best_k_models": {"x/best": 0.5}}},
    }
    path = folder / "last.ckpt"
    torch.save(content, path)
    sound = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = (name for name in members if name.endswith("data.pkl"))

    def run(data: bytes) -> None:
        if data[:1] == b"\x01":
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                for name, old in members.items():
                    archive.writestr(name, data[1:] if name == pickled else old)
            data = buffer.getvalue()
        path.write_bytes(data)
        read_checkpoint(path)

    return run, [sound, b"\x01" + members[pickled]]


def config(folder: Path) -> tuple[Reader, list[bytes]]:
    """YAML of a run: as the command line reads it, and as a journal's header holds it."""
    from zolit.commands.given import read_given
    from zolit.runs.differences import find_differences

    recipe = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
    sound = "model: {quantizer: Int8, optimizer: {lr: 0.1}}\ntrainer: {max_steps: 3}\n"

    def read(path: Path) -> None:
        read_given(["fit", "--config", str(path)])
        text = path.read_bytes().decode("utf-8", "replace")
        find_differences(sound, text)

    tags = [b"model: !!python/object/apply:os.system ['true']", b"a: &a [*a, 1e400, 0x_, 1:2:3]"]
    return in_file(folder, "c.yaml", read), [recipe.read_bytes(), sound.encode(), *tags]


def safetensors(folder: Path) -> tuple[Reader, list[bytes]]:
    """A folder with one file, or, after a first byte of 1, with an index of two."""
    import torch
    from safetensors.torch import save

    from zolit.models.loading.shards import find_safetensors as tensors_of
    from zolit.models.source import ModelSource

    sound = save({"a": torch.arange(4.0), "b": torch.ones(2, dtype=torch.int8)})
    shard = "model-00001-of-00001.safetensors"
    index = json.dumps({"weight_map": {"a": shard, "b": shard}}).encode()
    single, several = folder / "single", folder / "several"
    for place in (single, several):
        place.mkdir()
        (place / "config.json").write_text("{}")
    (several / shard).write_bytes(sound)

    def run(data: bytes) -> None:
        place = several if data[:1] == b"\x01" else single
        name = "model.safetensors.index.json" if place is several else "model.safetensors"
        (place / name).write_bytes(data[1:] if place is several else data)
        for tensor in (tensors_of(ModelSource(str(place))) or {}).values():
            tensor[:]

    return run, [sound, b"\x01" + index]


def gguf(folder: Path) -> tuple[Reader, list[bytes]]:
    """The table of a GGUF file."""
    import numpy as np
    from gguf import GGMLQuantizationType, GGUFWriter

    from zolit.models.gguf.table import read_table

    path = folder / "seed.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_array("tokens", ["a", "b"])
    writer.add_tensor("a", np.arange(4, dtype=np.float32))
    blocks = np.zeros((1, 34), dtype=np.uint8)
    writer.add_tensor("b", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return in_file(folder, "model.gguf", read_table), [path.read_bytes()]


TARGETS = {one.__name__: one for one in (journal, checkpoint, config, safetensors, gguf)}


def guarded(run: Reader) -> Reader:
    """The reader, with what it may raise let pass, and programs and connections forbidden."""
    from zolit.errors import UserError

    inside = [False]

    def hook(event: str, args: Any) -> None:
        if inside[0] and event.startswith(FORBIDDEN):
            raise AssertionError(f"{event} {args}")

    sys.addaudithook(hook)

    def hang(number: int, frame: Any) -> None:
        raise AssertionError(f"no end after {SECONDS} seconds of work")

    # Of the processor, not of the clock: a process that waits for its turn does not hang.
    signal.signal(signal.SIGPROF, hang)

    def one(data: bytes) -> None:
        inside[0] = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            run(data)
        except UserError:
            pass
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            inside[0] = False

    return one


def fuzz(target: str, seconds: int, seeds: bool) -> None:
    """Fuzz one reader in this process; does not return."""
    for name in MODULES[target] if seeds else ():
        importlib.import_module(name)
    if not seeds:
        import atheris

        with atheris.instrument_imports(include=MODULES[target]):
            for name in MODULES[target]:
                importlib.import_module(name)
        if target == "checkpoint":
            from torch._weights_only_unpickler import Unpickler

            atheris.instrument_func(Unpickler.load)
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{target}-"))
    run, examples = TARGETS[target](folder)
    one = guarded(run)
    for example in examples:
        one(example)
    if seeds:
        shutil.rmtree(folder)
        return
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, example in enumerate(examples):
        (corpus / str(number)).write_bytes(example)
    limits = [f"-max_total_time={seconds}", "-timeout=1200", "-rss_limit_mb=2048", "-max_len=8192"]
    where = f"-artifact_prefix={folder}/"
    atheris.Setup([sys.argv[0], *limits, where, "-print_final_stats=1", str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=150, help="of each reader")
    parser.add_argument("--seeds", action="store_true", help="run the examples alone")
    given = parser.parse_args()
    if given.target is not None:
        fuzz(given.target, given.seconds, given.seeds)
        return
    codes = {}
    for target in TARGETS:
        command = [sys.executable, __file__, "--target", target, "--seconds", str(given.seconds)]
        command += ["--seeds"] * given.seeds
        codes[target] = subprocess.run(command).returncode  # noqa: S603
    print(json.dumps(codes))
    sys.exit(max(codes.values()) != 0)


if __name__ == "__main__":
    main()
