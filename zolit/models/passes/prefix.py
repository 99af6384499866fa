"""Runs the blocks below the first tuned one once for both signs, and for all directions of a step.

In these blocks the second half of a paired batch equals the first, and the hidden states are the
same for every direction. A run that tunes the upper two thirds of a model with one query so saves
half of the products in the lower third; with many queries a batch it makes one pass through the
lower third. If each direction moves other blocks (`RandomBlocks`), directions share the blocks
below the lowest that moves.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from zolit.compat import Cache
from zolit.models.anatomy import block_lists
from zolit.models.passes.calls import Call, Stage, Wrap, wrap_call
from zolit.models.passes.prefix_forms import Form, Leaves, alike
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.weight import PerturbedWeight


def prefix_blocks(model: nn.Module, reading: Reading) -> list[nn.Module]:
    """The blocks that can run once for some directions: those below the last tuned block.

    None if the model has several lists of blocks (`zolit.models.anatomy`).
    """
    lists = block_lists(model)
    if len(lists) != 1 or not any(_sites(model)):
        return []
    blocks = list(lists[0])
    moving = [place for place, block in enumerate(blocks) if _sites(block)] or [len(blocks)]
    return blocks[: moving[-1] if reading.leaves_weights_out else moving[0]]


def share_prefix(model: nn.Module, reading: Reading, forms: list[Form]) -> int:
    """Let the blocks below the first with a moving weight run once, in place.

    In a pair they run on one half of the batch. Inside `Reading.same_batch` each runs only in the
    first pass that needs it, as long as later passes have equal arguments. A pass that has read a
    moving weight earlier, such as an embedding, runs as before.

    Args:
        model: a prepared model, changed in place; its blocks may be compiled.
        reading: the state that its weights share.
        forms: of the blocks that may run once (`zolit.models.passes.prefix_trial.try_prefix`).

    Returns:
        The number of blocks that run once for some directions.
    """
    if forms:
        _share(model, reading, block_sites(model), forms)
    return len(forms)


@contextmanager
def sharing(
    copy: nn.Module, reading: Reading, sites: list[list[Site]], forms: list[Form]
) -> Iterator[None]:
    """`share_prefix` inside this context, for a copy of a model whose blocks are not compiled.

    Args:
        copy: its weights may be anything.
        reading: the state that the model's weights share.
        sites: of the model's blocks (`block_sites`).
        forms: as in `share_prefix`.
    """
    _share(copy, reading, sites, forms)
    try:
        yield
    finally:
        for block in block_lists(copy)[0]:
            wrap_call(block, Stage.PREFIX, None)


def block_sites(model: nn.Module) -> list[list[Site]]:
    """Sites of the moving weights in each block of a model that has one list of blocks."""
    return [_sites(block) for block in block_lists(model)[0]]


def _share(model: nn.Module, reading: Reading, sites: list[list[Site]], forms: list[Form]) -> None:
    shared = _Prefix(reading, sites, forms)
    for place, block in enumerate(list(block_lists(model)[0])[: len(forms)]):
        wrap_call(block, Stage.PREFIX, shared.at(place))


class _Prefix:
    """State of the pass that runs through the prefix now, and results of earlier passes.

    Args:
        reading: whose pairs and batches these are.
        sites: of the weights in each block.
        forms: of the blocks that a prefix may have.
    """

    def __init__(self, reading: Reading, sites: list[list[Site]], forms: list[Form]) -> None:
        self.reading = reading
        self.sites = sites
        self.forms = forms
        self._forget()

    def _forget(self) -> None:
        self._end = 0  # blocks of the prefix of this pass
        self._known = -1  # the last of them whose result was in memory when the pass began
        self._rows: int | None = None  # of the whole batch while its first half alone passes
        self._halves: dict[int, tuple[Tensor, Tensor]] = {}
        self._given: dict[int, Tensor] = {}  # what the last block gave for each row of a half
        self._results: dict[int, Any] | None = None  # of blocks, kept for other passes

    def at(self, place: int) -> Wrap:
        """The stage of a block that is in the prefix of some passes."""

        def wrap(inner: Call) -> Call:
            def call(*arguments: Any, **options: Any) -> Any:
                if place == 0:
                    self._begin(arguments, options)
                if place >= self._end:
                    return inner(*arguments, **options)
                return self._run(inner, place, arguments, options)

            return call

        return wrap

    def _begin(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Decide which blocks of the prefix this pass has to run."""
        self._forget()
        if not self.reading.nothing_perturbed_yet or _extends_a_cache(arguments, options):
            return
        leaves, spec = tree_flatten((arguments, options))
        if self.reading.paired:
            self._rows = _rows(leaves, spec, self.forms[0].taken)
            if self._rows is None:
                return
        self._end = self._first_moving()
        if self.reading.repeated is None or self._end == 0:
            return
        taken = tree_unflatten(self._half(leaves, self.forms[0].taken), spec)
        if not _equal(self.reading.repeated.get("prefix of"), taken):
            self.reading.repeated.update({"prefix of": taken, "prefix": {}})
        self._results = self.reading.repeated["prefix"]
        self._known = max((place for place in self._results if place < self._end), default=-1)

    def _first_moving(self) -> int:
        """Number of the first block that moves in this pass; at rest, that moves in any pass."""
        for place, sites in enumerate(self.sites[: len(self.forms)]):
            if any(not self.reading.active or self.reading.moves(site) for site in sites):
                return place
        return len(self.forms)

    def _run(self, inner: Call, place: int, arguments: tuple[Any, ...], options: Any) -> Any:
        """Run a block of the prefix, in a pair on one half of the batch."""
        last = place == self._end - 1
        if self._results is not None and place <= self._known:
            out = self._results[self._known]
            return self._both(out, self._known) if last else self._noted(out, self._known)
        if self._rows is not None:
            leaves, spec = tree_flatten((arguments, options))
            if not _fits(leaves, spec, self.forms[place].taken, self._rows):
                # Arguments that no trial has seen: the prefix ends before this block.
                leaves = [self._whole(leaf) for leaf in leaves]
                self._forget()
                arguments, options = tree_unflatten(leaves, spec)
                return inner(*arguments, **options)
            leaves = self._half(leaves, self.forms[place].taken)
            arguments, options = tree_unflatten(leaves, spec)
        out = inner(*arguments, **options)
        # Keep the result: another direction may continue from it.
        if self._results is not None and (place + 1 == len(self.sites) or self.sites[place + 1]):
            self._results[place] = out
        return self._both(out, place) if last else self._noted(out, place)

    def _half(self, leaves: list[Any], form: Leaves) -> list[Any]:
        """The first half of the arguments that have one entry for each row; halves stay as they
        are."""
        if self._rows is None:
            return leaves
        return [
            self._first(x) if each and not _plain(x) and x.shape[0] == each * self._rows else x
            for x, each in zip(leaves, form.each, strict=True)
        ]

    def _first(self, value: Tensor) -> Tensor:
        # The whole is kept too, so that no other tensor gets its id.
        if id(value) not in self._halves:
            self._halves[id(value)] = (value, value[: value.shape[0] // 2])
        return self._halves[id(value)][1]

    def _noted(self, out: Any, place: int) -> Any:
        """A result, after the tensors in it that have one entry for each row are noted."""
        if self._rows is not None:
            each = self.forms[place].given.each
            leaves = tree_flatten(out)[0]
            self._given = {id(x): x for x, many in zip(leaves, each, strict=True) if many}
        return out

    def _whole(self, leaf: Any) -> Any:
        """A tensor that the last block made for one half, doubled; any other value as it is."""
        return torch.cat((leaf, leaf)) if id(leaf) in self._given else leaf

    def _both(self, out: Any, place: int) -> Any:
        """The result of the prefix, doubled if only one half was run."""
        self._noted(out, place)
        leaves, spec = tree_flatten(out)
        leaves = [self._whole(leaf) for leaf in leaves]
        self._forget()
        return tree_unflatten(leaves, spec)


def _fits(leaves: list[Any], spec: TreeSpec, form: Leaves, rows: int) -> bool:
    """Whether a block's arguments have a form that a trial has seen, for the batch or a half."""
    return spec == form.spec and all(
        _plain(x)
        or each == 0
        or (each is not None and x.shape[0] in (each * rows, each * rows // 2))
        for x, each in zip(leaves, form.each, strict=True)
    )


def _extends_a_cache(arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a block keeps its keys and values for later tokens.

    The halves of a pair then go on from tokens of their own, and a block that does not run would
    leave its part of the cache behind.
    """
    return any(isinstance(one, Cache) for one in (*arguments, *options.values()))


def _plain(leaf: Any) -> bool:
    return not isinstance(leaf, Tensor) or alike(leaf)


def _rows(leaves: list[Any], spec: TreeSpec, form: Leaves) -> int | None:
    """Rows of the batch in the first block's arguments; None if no trial has seen such ones."""
    if spec != form.spec:
        return None
    both = zip(leaves, form.each, strict=True)
    rows = next((x.shape[0] // each for x, each in both if each and not _plain(x)), 1)
    if rows % 2 or not _fits(leaves, spec, form, rows):
        return None
    return rows


def _equal(first: Any, second: Any) -> bool:
    """Whether two sets of arguments hold the same tensors and the same other objects."""
    (one, form), (other, other_form) = tree_flatten(first), tree_flatten(second)
    return form == other_form and all(
        torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or (isinstance(a, bool | int | float | str) and a == b)
        for a, b in zip(one, other, strict=True)
    )


def _sites(module: nn.Module) -> list[Site]:
    return [
        parameter.site
        for parameter in module.parameters()
        if isinstance(parameter, PerturbedWeight) and parameter.site is not None
    ]
