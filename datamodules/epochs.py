"""Shuffled epochs whose order depends on the seed and the epoch alone."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from zolit.caller import by_caller
from zolit.errors import UserError


class EpochSampler(Sampler[int]):
    """A new random order each epoch, a function of ``(seed, epoch)``.

    It depends neither on the global random state nor on the epochs drawn before, so the rows of any
    step of a run can be found again. Lightning calls ``set_epoch``.

    Rows of similar length come together: the shuffled rows are cut into pools of ``pool`` batches,
    each pool is sorted by length and cut into batches, and its batches are shuffled.

    Args:
        lengths: of each row, in any unit.
        seed: of the orders.
        batch_size: rows of a batch.
        pool: batches whose rows are sorted together; 1 draws the rows of a batch wholly at random.
    """

    def __init__(
        self, lengths: Sequence[int], seed: int, batch_size: int = 1, pool: int = 1
    ) -> None:
        self.lengths = lengths
        self.seed = seed
        self.batch_size = batch_size
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(_shuffle_seed(self.seed, self.epoch))
        order: list[int] = torch.randperm(len(self.lengths), generator=generator).tolist()
        if self.pool == 1:
            yield from order
            return
        rows = self.pool * self.batch_size
        for start in range(0, len(order), rows):
            part = sorted(order[start : start + rows], key=self.lengths.__getitem__)
            full = len(part) // self.batch_size
            for batch in torch.randperm(full, generator=generator).tolist():
                yield from part[batch * self.batch_size : (batch + 1) * self.batch_size]
            # The loader cuts the order into batches, so a batch that is not full comes last.
            yield from part[full * self.batch_size :]

    def __len__(self) -> int:
        return len(self.lengths)


class ResumableLoader(DataLoader):
    """A data loader that can go on in the middle of an epoch.

    Lightning stores ``state_dict`` with its checkpoints and calls ``load_state_dict`` on resume.
    After ``load_state_dict({"epoch": e, "batches": b})`` the next iteration gives epoch e from
    batch b on. The batches before it are collated and thrown away.
    """

    _position: tuple[int, int] = (0, 0)
    _resume: tuple[int, int] | None = None

    @property
    def epoch(self) -> int:
        """Epoch of the sampler; 0 for a sampler without epochs."""
        return int(getattr(self.sampler, "epoch", 0))

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # All of this runs at the first `next`, after Lightning has set the epoch.
        epoch, resume = self.epoch, self._resume
        skip = resume[1] if resume is not None and resume[0] == epoch else 0
        self._resume = None
        batches = super().__iter__()
        for index, batch in enumerate(batches):
            if index >= skip:
                self._position = (epoch, index + 1)
                yield batch

    def order(self) -> dict[str, Any]:
        """Facts that determine the batches, in plain values: equal facts, equal batches.

        ``digest`` hashes the rows as ``repr`` shows them; None if ``repr`` shows addresses.
        """
        rows: Any = self.dataset
        digest: Any = hashlib.blake2b(digest_size=16)
        for index in range(len(rows)):
            shown = repr(rows[index])
            if " at 0x" in shown:
                digest = None
                break
            digest.update(shown.encode())
        facts = {"rows": len(rows), "digest": None if digest is None else digest.hexdigest()}
        facts |= {"batch_size": self.batch_size, "sampler": type(self.sampler).__name__}
        if isinstance(self.sampler, EpochSampler):
            facts |= {"seed": self.sampler.seed, "pool": self.sampler.pool}
        return facts

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were handed out."""
        return {"epoch": self._position[0], "batches": self._position[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next iteration continues from ``state``.

        Raises:
            UserError: if ``state`` has another form than `state_dict` returns.
        """
        for name in ("epoch", "batches"):
            count = state.get(name)
            if not isinstance(count, int) or count < 0:
                raise UserError(
                    f"ckpt_path: the state of the training loader has {name}={count!r}, expected "
                    "a count; give another checkpoint of the run, or one that "
                    f"{by_caller('zolit replay', 'zolit.replay')} writes"
                )
        self._resume = self._position = (state["epoch"], state["batches"])
        set_epoch = getattr(self.sampler, "set_epoch", None)
        if callable(set_epoch):
            set_epoch(state["epoch"])


def _shuffle_seed(seed: int, epoch: int) -> int:
    """A 63-bit generator seed; neighbouring pairs give unrelated ones (splitmix64 finalizer)."""
    value = (seed * 0x9E3779B97F4A7C15 + epoch + 1) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = ((value ^ (value >> shift)) * factor) % 2**64
    return (value ^ (value >> 31)) % 2**63
