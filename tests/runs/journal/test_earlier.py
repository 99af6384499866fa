"""Journals of version 1 replay and resume as their runs were, where later versions do otherwise."""

from dataclasses import replace
from pathlib import Path

import numpy_noise
import pytest
import torch
from tiny_runs import Kill, contents, module, resume, sgd, start

from zolit.checkpoints.tensors import start_tensors, weights_digest
from zolit.digests import combined_digest, tensor_digests
from zolit.noise import fold
from zolit.runs.journal import Header, Step, Weights
from zolit.runs.journal.earlier import move_as_recorded
from zolit.runs.journal.format import check_bytes, checksum, encode, encode_header
from zolit.runs.journal.reader import Contents, read_journal
from zolit.runs.rebuild import load_start
from zolit.strategies import CodePerturber, Int4, RandomMask
from zolit.tensors.weight import PerturbedWeight
from zolit.training.zero_order import ZeroOrderModule

BEFORE = "16be2f85b82554cc11671b1983c6f1e8"
"""Digest of the weights after the steps below, by zolit at 7debb62, which wrote version 1."""

STEPS = [Step(n, (30.0,), (fold(5, n),), (0.01 * (-1) ** n,), fold(6, n)) for n in range(2)]


def masked() -> ZeroOrderModule:
    """A quantizer that leaves up to a code of a weight, and a mask.

    By arithmetic that is exact, so that the digest is the same on every machine.
    """
    one = module(
        quantizer=Int4(32, keep_error=True),
        perturber=CodePerturber(distribution="rademacher"),
        optimizer=sgd(30.0, error_feedback=True),
        mask=RandomMask(0.25),
    )
    for weight in one.weights:
        weight.store.error.mul_(2)
    return one


def outside(weight: PerturbedWeight) -> torch.Tensor:
    """Where the mask lets a weight stay, by numpy."""
    key = numpy_noise.fold(numpy_noise.fold(0, 0), weight.site.index, 5)
    draws = numpy_noise.uniform(numpy_noise.counters(*weight.shape), key)
    return torch.from_numpy(draws >= 0.25)


def write(path: Path, found: Contents, version: int) -> None:
    """The same journal in another version."""
    assert found.header is not None
    file, chain = b"", 0
    for data in (
        encode_header(replace(found.header, version=version)),
        *map(encode, found.records),
    ):
        chain = checksum(data, chain)
        file += data + check_bytes(chain)
    path.write_bytes(file)


@pytest.mark.parametrize("version", [1, 2])
def test_the_steps_of_a_journal_follow_its_version(version: int, tmp_path: Path) -> None:
    one = masked()
    start = tensor_digests(start_tensors(one.network))
    header = Header("", start, combined_digest(start).hex(), one.fingerprint, {}, {})
    file = tmp_path / "journal.bin"
    write(file, Contents(header, list(STEPS), [], [], 0, None), version)
    found = read_journal(file)
    assert found.header is not None
    assert (found.header.version, found.fault) == (version, None)
    before = [weight.dense() for weight in one.weights]
    made = load_start(one, found.header, "run")
    made.run(found.records, 1)
    for weight, at_start in zip(one.weights, before, strict=True):
        moved, stays = weight.dense() != at_start, outside(weight)
        assert (moved & ~stays).any()
        assert bool((moved & stays).any()) == (version == 1)
    made.run(found.records, 2)
    assert (weights_digest(one.network).hex() == BEFORE) == (version == 1)


@pytest.mark.parametrize("steps", [0, 2])
def test_a_run_of_version_1_goes_on_as_it_began(steps: int, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = {"max_steps": 4, "val_check_interval": 6}
    for folder, kill in ((whole, []), (cut, [Kill("on_train_batch_start", steps)])):
        one = masked()
        move_as_recorded(one.weights, 1)
        start(folder, one, *kill, **options)
        write(folder / "journal.bin", contents(folder), 1)
    resume(cut, masked(), **options)
    ends = [
        [one.digest for one in contents(folder).records if isinstance(one, Weights)]
        for folder in (whole, cut)
    ]
    assert ends[0][-1] == ends[1][-1]
    found = contents(cut).header
    assert found is not None
    assert found.version == 1
