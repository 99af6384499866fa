"""How many directions a step takes."""

from zolit.strategies.query_scheduler.base import QueryScheduler
from zolit.strategies.query_scheduler.constant import ConstantQueries

__all__ = ["ConstantQueries", "QueryScheduler"]
