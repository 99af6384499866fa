"""When a log file gets a line of a long stage."""

import math


class Milestones:
    """Tells at which moments of a stage a line is due: evenly spread, and the last one.

    Args:
        lines: of a stage of known length, at most.

    Example:
        >>> milestones = Milestones(lines=4)
        >>> [done for done in range(1, 11) if milestones.due(done, 10)]
        [3, 6, 9, 10]
    """

    def __init__(self, lines: int = 10) -> None:
        self.lines = lines
        self.last = 0

    def start(self, done: int = 0) -> None:
        """A stage begins, of which some is done already."""
        self.last = done

    def due(self, done: int, total: int | None, every: int | None = None) -> bool:
        """Whether a line is due; it counts as written then.

        Args:
            done: how far the stage is.
            total: where it ends; None where nobody knows: then lines come at doubled distances.
            every: distance of the lines, where the user chose it.
        """
        apart = every or (max(self.last, 1) if total is None else math.ceil(total / self.lines))
        if done <= self.last or (done - self.last < apart and done != total):
            return False
        self.last = done
        return True
