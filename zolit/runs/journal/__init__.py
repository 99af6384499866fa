"""The journal of a run: a few bytes for each step, so that start weights and journal together
determine the run."""

from zolit.runs.journal.reader import Contents, Fault, read_journal
from zolit.runs.journal.records import Header, Position, Session, Step, Weights
from zolit.runs.journal.writer import JournalWriter

__all__ = [
    "Contents",
    "Fault",
    "Header",
    "JournalWriter",
    "Position",
    "Session",
    "Step",
    "Weights",
    "read_journal",
]
