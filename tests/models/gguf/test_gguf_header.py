"""Headers of GGUF files whose counts lead nowhere."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from zolit.errors import UserError
from zolit.models.gguf.header import read_header
from zolit.models.gguf.table import read_table


def written(path: Path) -> bytes:
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_array("tokens", ["a", "bc"])
    writer.add_array("scores", [0.5, 1.5])
    writer.add_float64("more", 2.0)
    writer.add_bool("flag", True)
    writer.add_tensor("a", np.arange(4, dtype=np.float32))
    blocks = np.zeros((1, 34), dtype=np.uint8)
    writer.add_tensor("b", blocks, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf_header")


@pytest.fixture(scope="module")
def sound(folder: Path) -> bytes:
    return written(folder / "sound.gguf")


def test_a_sound_file_passes(folder: Path, sound: bytes) -> None:
    header = read_header(folder / "sound.gguf")
    table = read_table(folder / "sound.gguf")
    assert [entry.name for entry in table.entries] == ["a", "b"]
    for entry, there in zip(table.entries, GGUFReader(folder / "sound.gguf").tensors, strict=True):
        assert (entry.name, entry.kind) == (there.name, there.tensor_type)
        assert (entry.offset, entry.shape) == (there.data_offset, there.data.shape)
        assert entry.dtype == there.data.dtype
    assert header.tensors["b"].shape == (1, 32)
    assert header.floats("a") == [0, 1, 2, 3]
    fields = {name: header.fields[name] for name in ("tokens", "scores", "more", "flag")}
    assert fields == {"tokens": 2, "scores": [0.5, 1.5], "more": 2.0, "flag": True}


@pytest.mark.parametrize("place", [8, 16])
@pytest.mark.parametrize("count", [2**60, 2**63, 70000])
def test_counts_beyond_the_file(place: int, count: int, folder: Path, sound: bytes) -> None:
    """Left to the package alone, such a file keeps it busy for ever."""
    path = folder / "counts.gguf"
    path.write_bytes(sound[:place] + struct.pack("<Q", count) + sound[place + 8 :])
    with pytest.raises(UserError, match="lead beyond its end"):
        read_table(path)


def test_arrays_beyond_the_file(folder: Path, sound: bytes) -> None:
    path = folder / "array.gguf"
    for kind, found in ((8, 2), (6, 2)):
        at = sound.index(struct.pack("<IIQ", 9, kind, found)) + 8
        path.write_bytes(sound[:at] + struct.pack("<Q", 2**61) + sound[at + 8 :])
        with pytest.raises(UserError, match="a length in it leads beyond its end"):
            read_table(path)


@pytest.mark.parametrize("twice", [b"scores", b"b"])
def test_two_of_one_name(twice: bytes, folder: Path, sound: bytes) -> None:
    other = {b"scores": b"tokens", b"b": b"a"}[twice]
    path = folder / "twice.gguf"
    path.write_bytes(
        sound.replace(struct.pack("<Q", len(twice)) + twice, struct.pack("<Q", len(other)) + other)
    )
    with pytest.raises(UserError, match="two fields or two tensors of one name"):
        read_table(path)


def test_another_version(folder: Path, sound: bytes) -> None:
    path = folder / "version.gguf"
    path.write_bytes(sound[:4] + struct.pack("<I", 1) + sound[8:])
    with pytest.raises(UserError, match="of version 1 of the format, expected 2 or 3"):
        read_table(path)


@settings(max_examples=300)
@given(
    places=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=4)
)
def test_any_bytes_overwritten(places: list[tuple[int, int]], folder: Path, sound: bytes) -> None:
    data = bytearray(sound)
    for place, value in places:
        data[place % len(data)] = value
    path = folder / "any.gguf"
    path.write_bytes(data)
    try:
        table = read_table(path)
    except UserError:
        return
    assert len(table.entries) <= 2
