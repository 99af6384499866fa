"""What reading a checkpoint brings into memory."""

from pathlib import Path

import torch

from zolit.callbacks.peak_memory import resident_memory
from zolit.checkpoints.file import FileCheckpoints

FRAME = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6"}


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    content = {**FRAME, "state_dict": {"w": torch.ones(1000)}}
    content["residual"] = torch.ones(64 << 20).char()
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
    io.save_checkpoint({**FRAME, "state_dict": {"w": torch.ones(5000)}}, path)
    read = io.load_checkpoint(path)["state_dict"]
    io.save_checkpoint({**FRAME, "state_dict": {"w": torch.zeros(3)}}, path)
    assert read["w"].sum() == 5000
    read["w"].zero_()
    assert io.load_checkpoint(path)["state_dict"]["w"].numel() == 3
