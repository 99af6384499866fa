"""What a reconstruction is: pruning a block so that it still gives what it gave."""

from abc import ABC, abstractmethod

from zolit.calibration.region import Region
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.pattern import Pattern


class Reconstruction(ABC):
    """Prunes the layers of a block and changes what is left, so that the block's output stays.

    Example:
        >>> from zolit.strategies.pruner.one_shot import prune_region
        >>> class Nothing(Reconstruction):
        ...     def rebuild(self, region, pruner, pattern):
        ...         return prune_region(region, pruner, pattern)
    """

    @abstractmethod
    def rebuild(self, region: Region, pruner: Pruner, pattern: Pattern) -> dict[str, PrunedWeight]:
        """The new weights of a block's layers, by the path of the parameter.

        Args:
            region: the block, still dense; not changed. Its dense outputs must be recorded
                (`Region.statistics` does so).
            pruner: which entries become zero.
            pattern: how many are left.

        Raises:
            UserError: naming the block or the layer, if something is NaN or infinite.
        """
