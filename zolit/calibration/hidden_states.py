"""The hidden states that enter a block, for each window, while the blocks before it change."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from zolit.calibration.chain import Chain
from zolit.calibration.kept import Kept
from zolit.errors import UserError

Activations = Literal["memory", "disk"]

Run = Callable[[int, Tensor], Tensor]
"""``run(window, hidden)``: the output of a block for a window, ``[1, length, columns]``."""


class HiddenStates(ABC):
    """Inputs of one block after another, and its output before it is changed.

    Args:
        chain: the blocks of the model.

    Attributes:
        block: number of the block whose inputs are held.
    """

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.block = 0

    @abstractmethod
    def input(self, window: int) -> Tensor:
        """The input of the block for a window, ``[1, length, columns]``."""

    def inputs(self) -> Iterator[Tensor]:
        """The inputs of the block for each window."""
        return map(self.input, range(len(self.chain.windows)))

    @abstractmethod
    def record(self, outputs: Iterator[Tensor]) -> None:
        """Hold the outputs of the block as it is, for each window."""

    @abstractmethod
    def recorded(self, window: int) -> Tensor:
        """What `record` holds of a window, ``[1, length, columns]``."""

    @abstractmethod
    def advance(self, recorded: bool = True) -> float:
        """Run the block as it is now; its outputs become the inputs of the next block.

        Args:
            recorded: whether `record` was called for this block.

        Returns:
            How far the outputs are from the recorded ones: the norm of the difference over the
            norm of those, over all windows. NaN where none are recorded.

        Raises:
            UserError: naming the block, if an output is NaN or infinite.
        """

    @abstractmethod
    def forget(self) -> None:
        """Let go of what is no longer needed, now that the block before is safe."""

    def step(self, window: int, hidden: Tensor) -> Tensor:
        """Run the block on the hidden states of a window, as the model would.

        Raises:
            UserError: naming the block, if the output is NaN or infinite.
        """
        found = self.chain.step(self.block, window, hidden)
        if not found.isfinite().all():
            raise UserError(
                f"model.source: {self.chain.blocks[self.block][0]} gives hidden states that are "
                f"NaN or infinite for window {window} of the text; give a model whose weights are "
                "finite, or model.dtype: float32"
            )
        return found

    def outputs(self) -> Iterator[Tensor]:
        """The outputs of the block as it is, for each window."""
        for window, hidden in enumerate(self.inputs()):
            yield self.step(window, hidden)


class _Distance:
    """Sums up how far outputs are from others."""

    def __init__(self) -> None:
        self.apart, self.size = 0.0, 0.0

    def add(self, found: Tensor, wanted: Tensor) -> None:
        exact = wanted.double()
        self.apart += float((found.double() - exact).square().sum())
        self.size += float(exact.square().sum())

    @property
    def ratio(self) -> float:
        return (self.apart / self.size) ** 0.5 if self.size else float("nan")


class StatesInMemory(HiddenStates):
    """Hidden states in memory, and while a block is changed its outputs beside them.

    Args:
        chain: the blocks of the model.
        block: where to begin; the blocks before it are run as they are.
    """

    def __init__(self, chain: Chain, block: int = 0) -> None:
        super().__init__(chain)
        self._inputs = [chain.enter(window) for window in range(len(chain.windows))]
        self._recorded: list[Tensor] = []
        for _ in range(block):
            self.advance(recorded=False)

    def input(self, window: int) -> Tensor:
        return self._inputs[window]

    def record(self, outputs: Iterator[Tensor]) -> None:
        self._recorded = list(outputs)

    def recorded(self, window: int) -> Tensor:
        return self._recorded[window]

    def advance(self, recorded: bool = True) -> float:
        distance = _Distance()
        for window, hidden in enumerate(self._inputs):
            found = self.step(window, hidden)
            if recorded:
                distance.add(found, self._recorded[window])
                self._recorded[window] = torch.empty(0)
            self._inputs[window] = found
        self.block += 1
        self._recorded = []
        return distance.ratio

    def forget(self) -> None:
        """Nothing is left to let go of."""


class StatesOnDisk(HiddenStates):
    """Hidden states in files, a window at a time in memory; a killed process goes on with them.

    Args:
        chain: the blocks of the model.
        folder: for the files; it exists.
        block: where to begin. If the folder has no inputs of this block, they are made of those of
            the last block before it that it has, by running the blocks between as they are.
    """

    def __init__(self, chain: Chain, folder: Path, block: int = 0) -> None:
        super().__init__(chain)
        self.folder = folder
        first = chain.enter(0)
        self._lengths = [len(one.ids) for one in chain.windows]
        self._columns, self._dtype, self._device = first.shape[-1], first.dtype, first.device
        there = [number for number in range(block + 1) if self._kept(number).exists()]
        if there:
            self.block = there[-1]
        else:
            with self._kept(0).writing() as write:
                for window in range(len(chain.windows)):
                    write(chain.enter(window))
        while self.block < block:
            self.advance(recorded=False)
            self.forget()

    def input(self, window: int) -> Tensor:
        return self._kept(self.block).one(window).to(self._device)

    def record(self, outputs: Iterator[Tensor]) -> None:
        with self._kept(self.block, "dense").writing() as write:
            for one in outputs:
                write(one)

    def recorded(self, window: int) -> Tensor:
        return self._kept(self.block, "dense").one(window).to(self._device)

    def advance(self, recorded: bool = True) -> float:
        distance = _Distance()
        with self._kept(self.block + 1).writing() as write:
            for window, found in enumerate(self.outputs()):
                if recorded:
                    distance.add(found, self.recorded(window))
                write(found)
        self.block += 1
        return distance.ratio

    def forget(self) -> None:
        for number in range(self.block):
            self._kept(number).remove()
            self._kept(number, "dense").remove()

    def _kept(self, number: int, name: str = "inputs") -> Kept:
        file = self.folder / f"{name}-{number}.bin"
        return Kept(file, self._lengths, self._columns, self._dtype)
