"""Move a few blocks of the model along each direction, drawn at random for each direction."""

from zolit.arguments import at_least
from zolit.formats.base import StoredWeight
from zolit.strategies.mask.base import Mask
from zolit.supports import Blocks, Support


class RandomBlocks(Mask):
    """Moves some consecutive blocks of the model along each direction.

    These are layer-wise sparse directions (LeZO, arXiv 2410.09823). The blocks before those of a
    direction run once a batch for all directions. If a direction moves one of L blocks, it reads
    (L + 1) / 2 blocks on average in two versions, instead of L. The estimate stays unbiased,
    because the move of a block is multiplied by L over the number of blocks that a direction moves
    (docs/methods/random_blocks.md).

    Tuned weights outside of the blocks (embeddings, norms) count as one further block.

    Args:
        blocks: number of blocks that a direction moves, of those that hold a tuned weight.

    Raises:
        UserError: if ``blocks`` is less than 1.

    Example:
        >>> support = RandomBlocks(2).choose("model.layers.3.mlp.up_proj.weight", None, 3, 10)
        >>> support.importance_weight
        5.0
    """

    def __init__(self, blocks: int = 1) -> None:
        self.blocks = at_least("blocks", blocks, instead="try 1")

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        return Blocks(block, blocks, self.blocks)
