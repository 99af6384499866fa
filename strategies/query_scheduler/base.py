"""How many directions a step takes."""

from abc import ABC, abstractmethod

from zolit.arguments import Checked


class QueryScheduler(Checked, ABC):
    """Number of directions that the estimate of a step averages over.

    Example:
        >>> class Growing(QueryScheduler):
        ...     def queries(self, step, epoch):
        ...         return 1 + epoch
        >>> Growing().queries(step=100, epoch=2)
        3
    """

    @abstractmethod
    def queries(self, step: int, epoch: int) -> int:
        """Directions at optimizer step ``step`` of epoch ``epoch``, both from 0; at least 1."""
