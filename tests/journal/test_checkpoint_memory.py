"""What reading a checkpoint brings into memory."""

from pathlib import Path

import pytest
import torch

from zolit.callbacks.peak_memory import resident_memory
from zolit.journal.checkpoints import FileCheckpoints


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    content = {"state_dict": {"w": torch.ones(1000)}, "residual": torch.ones(64 << 20).char()}
    path = tmp_path / "last.ckpt"
    io = FileCheckpoints()
    io.save_checkpoint(content, path)
    del content
    before = resident_memory()
    read = io.load_checkpoint(path, map_location=lambda storage, _: storage, weights_only=True)
    copy = torch.zeros(1000).copy_(read["state_dict"]["w"])
    assert resident_memory() - before < 32 << 20
    assert copy.sum() == 1000
    assert read["residual"].long().sum() == 64 << 20


def test_replaced_while_it_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    io = FileCheckpoints()
    io.save_checkpoint({"w": torch.ones(5000)}, path)
    read = io.load_checkpoint(path)
    io.save_checkpoint({"w": torch.zeros(3)}, path)
    assert read["w"].sum() == 5000
    read["w"].zero_()
    assert io.load_checkpoint(path)["w"].numel() == 3


def test_not_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(Exception, match=r"(?i)unpickl|load|invalid"):
        FileCheckpoints().load_checkpoint(path, weights_only=True)
