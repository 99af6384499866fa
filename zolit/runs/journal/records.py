"""What a journal says of a run: how it started, its steps, digests of its weights."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

VERSION = 2
"""Of the journals that are written. Version 1 has the same bytes, but some of its runs made their
first step in another way (`zolit.runs.journal.earlier`)."""


@dataclass(frozen=True)
class Position:
    """How far a run has come in its data.

    Attributes:
        epoch: number of the epoch, from 0.
        batch: batches of the epoch that were taken.
        batches: batches taken since the run began.
        last: whether the batch was the last of its epoch.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    last: bool = False


@dataclass(frozen=True)
class Step:
    """An optimizer step.

    Attributes:
        step: its number, from 0.
        rates: learning rate of each parameter group.
        keys: 64-bit key of each direction.
        values: projected gradient along each, float32, before the estimator changes it
            (`Estimator.finish`): a replay calls this method again.
        rounding_key: 64-bit key of the update's stochastic rounding.
        position: in the data after the step.
        skipped: queries whose loss was not finite, since the run began.
        skipped_in_row: of them, how many just before the next query.
    """

    step: int
    rates: tuple[float, ...]
    keys: tuple[int, ...]
    values: tuple[float, ...]
    rounding_key: int
    position: Position = field(default_factory=Position)
    skipped: int = 0
    skipped_in_row: int = 0
    kind: ClassVar[int] = 1


@dataclass(frozen=True)
class Weights:
    """A digest of the tuned weights after a number of steps.

    Attributes:
        step: steps that were made.
        digest: `zolit.digests.combined_digest` of the weights.
        final: whether the run ended here.
    """

    step: int
    digest: bytes
    final: bool = False
    kind: ClassVar[int] = 2


@dataclass(frozen=True)
class Session:
    """A process resumed the run.

    Attributes:
        step: steps that were made before.
        facts: the environment of the process (library versions, device, threads), and the options
            that were changed.
    """

    step: int
    facts: dict[str, Any]
    kind: ClassVar[int] = 3


Record = Step | Weights | Session


@dataclass(frozen=True)
class Header:
    """The start of a run.

    Attributes:
        config: the configuration as YAML; empty if there was none.
        weights: hex digest of each tensor that the run moves or starts from, by name.
        whole: hex digest over all of them.
        fingerprint: of the model (`zolit.checkpoints.tensors.fingerprint`).
        data: facts that determine the order of the rows; empty if they are not known.
        environment: library versions, device, threads.
        step: number of steps that the start weights had made; 0 unless they are from a checkpoint.
        checkpoint: path of the checkpoint that the run started from; empty for none.
        version: of the format. It stands before the JSON of the other fields.
        parts: what its parts record beside their options (`zolit.runs.parts.recorded_parts`): hex
            digests of files that they read, versions of what they compute. Left out where it is
            empty, as in journals of before there was any.
    """

    config: str
    weights: dict[str, str]
    whole: str
    fingerprint: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    step: int = 0
    checkpoint: str = ""
    version: int = VERSION
    parts: dict[str, Any] = field(default_factory=dict)
