"""The same number of directions at every step."""

from zolit.arguments import at_least
from zolit.strategies.query_scheduler.base import QueryScheduler


class ConstantQueries(QueryScheduler):
    """Averages over ``n`` directions at every step.

    Args:
        n: directions a step.

    Raises:
        UserError: if ``n`` is less than 1.

    Example:
        >>> ConstantQueries(4).queries(step=0, epoch=0)
        4
    """

    def __init__(self, n: int = 1) -> None:
        self.n = at_least("n", n, instead="use n: 1 for one direction a step")

    def queries(self, step: int, epoch: int) -> int:
        return self.n
