"""Weighted k-means on a line, for many rows at once.

On a line, clusters are intervals of the sorted values. A partition is then a list of borders, the
places between values where one cluster ends and the next begins, and prefix sums give the loss of
any interval at once. Dynamic programming finds the best partition (Wang and Song 2011,
"Ckmeans.1d.dp"). To search all places of a row would be a long chain of small operations. Here the
search runs over a grid of places, for all rows side by side, and then over ever finer places around
the borders that were found.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from zolit.formats.rows import chunks

CELLS = 128
"""Cells into which the first search cuts a row; it chooses borders among their ends. A row of at
most this many values is searched whole."""

SIDE = 4
"""Places on each side of a border among which a finer search chooses."""

_LLOYD_ROUNDS = 8
_CHUNK_VALUES = 1 << 16
"""Values that are clustered at once, so that intermediate results stay in cache."""
_SEARCHED = 16
"""Rows whose cells are searched at once, for the same reason: a row takes 200 KB."""
_TINY = 1e-300
"""Stands in for a weight of 0 in a denominator whose numerator is 0 too."""


def weighted_kmeans_1d(values: Tensor, weights: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Centres that make ``sum_i weights[i] * (values[i] - nearest centre)**2`` small in each row.

    For rows of at most `CELLS` values the loss is the least possible. Longer rows get the best
    partition whose borders lie on a grid of places (`_grid`). All borders are then moved at once,
    within windows that narrow down to single values, and by rounds of Lloyd's algorithm. No move
    raises the loss.

    Args:
        values: ``[R, n]`` float, finite.
        weights: ``[R, n]`` float, finite and not negative. Values of weight 0 have no influence on
            the centres. In a row where all weights are 0, all values count alike.
        clusters: k, at least 2.

    Returns:
        The centres, ``[R, k]`` float64 in rising order, some of them equal where a row has fewer
        than k different values; and the number of each value's nearest centre, ``[R, n]`` int64.

    Example:
        >>> values, weights = torch.tensor([[0.0, 1.0, 10.0, 12.0]]), torch.tensor([[1.0, 3, 1, 1]])
        >>> centres, codes = weighted_kmeans_1d(values, weights, clusters=2)
        >>> centres.tolist(), codes.tolist()
        ([[0.75, 11.0]], [[0, 0, 1, 1]])
    """
    count, columns = values.shape
    centres = torch.empty(count, clusters, dtype=torch.float64, device=values.device)
    for rows in chunks(count, max(1, _CHUNK_VALUES // columns)):
        centres[rows] = _centres(values[rows].double(), weights[rows].double(), clusters)
    return centres, nearest(values, centres)


def nearest(values: Tensor, centres: Tensor) -> Tensor:
    """The number of each value's nearest centre; halfway between two it is the lower one.

    Args:
        values: ``[R, n]`` float.
        centres: ``[R, k]`` float in rising order.

    Returns:
        ``[R, n]`` int64.
    """
    return torch.searchsorted(_middles(centres.double()), values.double())


def _middles(centres: Tensor) -> Tensor:
    """The points halfway between neighbouring centres, ``[R, k - 1]``."""
    return (centres[:, 1:] + centres[:, :-1]) / 2


def _centres(values: Tensor, weights: Tensor, clusters: int) -> Tensor:
    """The centres of `weighted_kmeans_1d`, ``[R, k]`` float64, for rows that fit the cache."""
    x, order = values.sort(dim=1)
    w = weights.gather(1, order)
    total = w.sum(dim=1, keepdim=True)
    w = torch.where(total > 0, w / total, 1.0 / w.shape[1])
    # Shifted and scaled: a common offset would cost the prefix sums digits, and `_search_rows`
    # compares losses in float32.
    shift = (w * x).sum(dim=1, keepdim=True)
    x = x - shift
    size = (w * x * x).sum(dim=1, keepdim=True).sqrt()
    size = torch.where(size > 0, size, 1.0)
    x = x / size
    row = _Row.of(x, w)
    grid = _grid(x, w)
    chosen = _search(row, grid, clusters)
    places = grid.gather(1, chosen)
    if x.shape[1] > CELLS:
        last = grid.shape[1] - 1
        before = grid.gather(1, (chosen - 1).clamp(min=0))
        after = grid.gather(1, (chosen + 1).clamp(max=last))
        half = torch.maximum(places - before, after - places)
        for _ in range((x.shape[1] // CELLS).bit_length() + 2):
            half = half.clamp(min=SIDE)
            places = _move(row, places, half)
            half = half // 2
        for _ in range(_LLOYD_ROUNDS):
            middles = _middles(row.means(places))
            places = torch.searchsorted(row.x, middles, right=True)
    return row.means(places) * size + shift


class _Row(NamedTuple):
    """Sorted values with prefix sums, by which the loss of any interval is known.

    Attributes:
        x: ``[R, n]`` float64, in rising order.
        sums: ``[3, R, n + 1]`` float64: for each place the sums, over the values before it, of
            weight, of weight times value, and of weight times squared value.
    """

    x: Tensor
    sums: Tensor

    @classmethod
    def of(cls, x: Tensor, w: Tensor) -> "_Row":
        sums = x.new_zeros(3, x.shape[0], x.shape[1] + 1)
        torch.cumsum(torch.stack((w, w * x, w * x * x)), dim=2, out=sums[:, :, 1:])
        return cls(x, sums)

    def at(self, places: Tensor) -> Tensor:
        """The sums at some places, ``[R, P]`` int64, as ``[3, R, P]``."""
        return self.sums.gather(2, places.expand(3, -1, -1))

    def means(self, places: Tensor) -> Tensor:
        """The weighted mean of each cluster, ``[R, k]``.

        A cluster without weight gets the mean of a neighbour, so that the means are in order.

        Args:
            places: ``[R, k - 1]`` int64, where each cluster but the last ends.
        """
        ends = torch.nn.functional.pad(places, (1, 0))
        ends = torch.nn.functional.pad(ends, (0, 1), value=self.x.shape[1])
        weight, moment, _ = self.at(ends).diff(dim=2)
        # By rounding of the sums, the mean of a cluster of little weight could lie outside of it.
        least = self.x.gather(1, ends[:, :-1].clamp(max=self.x.shape[1] - 1))
        most = self.x.gather(1, (ends[:, 1:] - 1).clamp(min=0))
        means = (moment / weight).clamp(least, most)
        filled = torch.where(weight > 0, means, -torch.inf).cummax(dim=1).values
        smallest = torch.where(weight > 0, means, torch.inf).amin(dim=1, keepdim=True)
        return torch.maximum(filled, smallest)


def _losses(before: Tensor, after: Tensor) -> Tensor:
    """The losses of clusters from the sums where they begin and where they end.

    Args:
        before: ``[3, ...]``.
        after: ``[3, ...]``.
    """
    weight, moment, square = after - before
    # Where the weight is 0, the moment is 0 as well.
    return square.sub_(moment.square_().div_(weight.clamp_(min=_TINY))).clamp_(min=0)


def _grid(x: Tensor, w: Tensor) -> Tensor:
    """Places that cut each row into `CELLS` cells; all places of a row that is short.

    Cells are narrow where values are many, and also where an optimal partition has many clusters:
    the density of its centres goes with the cube root of the density of weight (Panter and Dite
    1951), which is ``w / gap`` between two values. Both count half.

    Args:
        x: ``[R, n]`` sorted values.
        w: ``[R, n]`` their weights.

    Returns:
        ``[R, cells + 1]`` int64, from 0 to n.
    """
    rows, count = x.shape
    if count <= CELLS:
        return torch.arange(count + 1, device=x.device).expand(rows, -1)
    gaps = x.diff(dim=1)
    around = torch.nn.functional.pad(gaps, (1, 0)) + torch.nn.functional.pad(gaps, (0, 1))
    share = (w * around * around).pow(1 / 3)
    share = share / share.sum(dim=1, keepdim=True).clamp(min=1e-300) + 1.0 / count
    filled = share.cumsum(dim=1)
    parts = torch.arange(1, CELLS, device=x.device) / CELLS
    inner = torch.searchsorted(filled, filled[:, -1:] * parts)
    edge = inner.new_zeros(rows, 1)
    return torch.cat((edge, inner, edge + count), dim=1)


def _search(row: _Row, grid: Tensor, clusters: int) -> Tensor:
    """The best partition whose borders lie on a grid.

    Args:
        row: the values.
        grid: ``[R, G]`` int64, places in rising order from 0 to n.
        clusters: k.

    Returns:
        ``[R, k - 1]`` int64, the index in the grid at which each cluster but the last ends.
    """
    found = [_search_rows(row.at(grid)[:, rows], clusters) for rows in chunks(len(grid), _SEARCHED)]
    return torch.cat(found)


def _search_rows(at: Tensor, clusters: int) -> Tensor:
    """`_search` for rows whose losses fit the cache, from the sums at the grid, ``[3, R, G]``."""
    size = at.shape[2]
    # losses[r, a, b] is of the cluster from place b to place a: the search runs along memory.
    losses = _losses(at.unsqueeze(2), at.unsqueeze(3)).float()
    losses += at.new_full((size, size), torch.inf, dtype=torch.float32).triu(1)
    best, sums = losses[:, :, 0], torch.empty_like(losses)
    earlier = []
    for _ in range(clusters - 1):
        earlier.append(best)
        best = torch.add(losses, best.unsqueeze(1), out=sums).amin(dim=2)
    index = torch.arange(len(losses), device=at.device)
    end = torch.full_like(index, size - 1)
    found = []
    for best in reversed(earlier):
        end = (losses[index, end] + best).argmin(dim=1)
        found.append(end)
    return torch.stack(found[::-1], dim=1)


def _move(row: _Row, places: Tensor, half: Tensor) -> Tensor:
    """The best partition whose borders lie near those of a given one.

    Args:
        row: the values.
        places: ``[R, k - 1]`` int64, where each cluster but the last ends.
        half: ``[R, k - 1]`` int64: the farthest that each border may move, which it does in one of
            `SIDE` equal steps to either side.

    Returns:
        ``[R, k - 1]`` int64, the new borders.
    """
    steps = torch.arange(-SIDE, SIDE + 1, device=places.device)
    near = places.unsqueeze(2) + (half.unsqueeze(2) * steps).div(SIDE, rounding_mode="trunc")
    near = near.clamp(0, row.x.shape[1])
    at = row.at(near.flatten(1)).unflatten(2, near.shape[1:])
    between = _losses(at[:, :, :-1].unsqueeze(3), at[:, :, 1:].unsqueeze(4))
    crossed = near[:, :-1].unsqueeze(2) > near[:, 1:].unsqueeze(3)
    between = between.masked_fill(crossed, torch.inf)
    best = _losses(torch.zeros_like(at[:, :, 0]), at[:, :, 0])
    choices = []
    for losses in between.unbind(1):
        best, choice = (losses + best.unsqueeze(1)).min(dim=2)
        choices.append(choice)
    index = (best + _losses(at[:, :, -1], row.sums[:, :, -1:])).argmin(dim=1, keepdim=True)
    found = [index]
    for choice in reversed(choices):
        index = choice.gather(1, index)
        found.append(index)
    return near.gather(2, torch.cat(found[::-1], dim=1).unsqueeze(2)).squeeze(2)
