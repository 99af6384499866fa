from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from zolit.datamodules.epochs import EpochSampler, ResumableLoader


def loader(batch_size: int = 3) -> ResumableLoader:
    return ResumableLoader(
        range(10),  # type: ignore[arg-type]
        batch_size=batch_size,
        sampler=EpochSampler(range(10), seed=5),
        generator=torch.Generator(),
    )


def batches(one: ResumableLoader, epoch: int) -> list[list[int]]:
    one.sampler.set_epoch(epoch)
    return [batch.tolist() for batch in one]


def test_order_depends_on_seed_and_epoch_alone() -> None:
    sampler = EpochSampler(range(100), seed=1)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(100))
    # Neighbouring pairs are not shifted copies of each other's streams.
    other = EpochSampler(range(100), seed=2)
    assert list(other) not in (first, second)


def test_pools_by_length() -> None:
    lengths = [(7 * row) % 50 for row in range(103)]
    sampler = EpochSampler(lengths, seed=1, batch_size=4, pool=5)
    order = list(sampler)
    assert sorted(order) == list(range(103))
    for start in range(0, 103, 20):  # each pool: batches hold neighbours in length, shuffled
        cut = order[start : start + 20]
        spans = sorted(
            (min(lengths[r] for r in cut[i : i + 4]), max(lengths[r] for r in cut[i : i + 4]))
            for i in range(0, len(cut) // 4 * 4, 4)
        )
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
    firsts = [lengths[row] for row in order[:20:4]]
    assert firsts != sorted(firsts)
    assert order != list(EpochSampler(lengths, seed=2, batch_size=4, pool=5))
    sampler.set_epoch(1)
    assert order != list(sampler)
    # The rows of a pool do not depend on their lengths.
    assert set(order[:20]) == set(list(EpochSampler(lengths, seed=1))[:20])


def test_the_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(loader(), 0)
    assert torch.equal(before, torch.get_rng_state())


def test_resumes_within_an_epoch() -> None:
    whole = batches(loader(), 2)
    running = loader()
    running.sampler.set_epoch(2)
    iterator = iter(running)
    for _ in range(2):
        next(iterator)
    state = running.state_dict()
    assert state == {"epoch": 2, "batches": 2}
    resumed = loader()
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    assert [batch.tolist() for batch in resumed] == whole[2:]
    assert batches(resumed, 3) == batches(loader(), 3)


def test_a_finished_epoch_does_not_shorten_the_next() -> None:
    resumed = loader()
    resumed.load_state_dict({"epoch": 2, "batches": 4})
    assert batches(resumed, 3) == batches(loader(), 3)


class Recorder(L.LightningModule):
    """Notes the rows it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        self.seen.append(batch.tolist())
        return self.weight * 0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lightning_resumes_at_any_step(tmp_path: Path, stop: int) -> None:
    def run(steps: int, checkpoint: Path | None) -> list[list[int]]:
        module = Recorder()
        trainer = L.Trainer(
            max_steps=steps,
            accelerator="cpu",
            callbacks=[ModelCheckpoint(tmp_path, every_n_train_steps=stop, save_top_k=-1)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, loader(), ckpt_path=checkpoint)
        return module.seen

    whole = run(11, None)
    assert whole[:4] == batches(loader(), 0)
    assert whole[4:8] == batches(loader(), 1)
    [checkpoint] = tmp_path.glob(f"*step={stop}.ckpt")
    assert run(11, checkpoint) == whole[stop:]
