"""Finds which rows may run in one batch without a change of one another's scores.

Rows of different lengths are padded to one length. Some models read the padding, count positions
from the start of the padded row, or carry a state through it.
"""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.anatomy import word_embeddings
from zolit.models.special_tokens import special_tokens
from zolit.models.trials.stand_ins import StandIns, make_blank

log = logging.getLogger(__name__)

Together = Literal["all", "one length", "one row"]
"""Rows in one batch: all, with padding; those of one length, without padding; or single ones."""

Logits = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
"""Logits ``[R, L, V]`` from ids and mask ``[R, T]`` and positions ``[R, L]``."""

LENGTHS = (7, 12, 7)
"""Lengths of the rows of a trial, in tokens."""

NEAR, ROUNDED = 1e-3, 1e-5
"""Differences of logits, relative to those between rows: larger ones than the first are no rounding
of float32, and smaller ones than the second always count as rounding.
"""


def rows_together(model: nn.Module, logits: Logits, left: bool) -> Together:
    """The largest set of rows that a model may run in one batch; a line tells if it is not all.

    The model runs on a few rows alone and beside others, with stand-ins for its weights
    (`StandIns`), so that the answer depends neither on its weights nor on its device.

    Args:
        model: prepared, on any device; its blocks are not compiled.
        logits: how it will be called.
        left: whether rows are padded on the left.

    Raises:
        UserError: if the model gives the same row another score in a second run, or cannot be
            called in this way.
    """
    words = word_embeddings(model)
    if words is None:
        return "all"
    try:
        together = _found(model, logits, left, len(words))
    except UserError:
        raise
    # The model's own code may raise anything on numbers that it never meets otherwise.
    except Exception:
        _check_that_it_runs(model, logits, left, len(words))
        together = "one length"
    if together != "all":
        log.warning(
            "a score of %s would depend on the other rows of its batch: rows run %s",
            type(model).__name__,
            "one by one" if together == "one row" else "with those of their own length",
        )
    return together


def groups(mask: Tensor, together: Together) -> Iterator[tuple[Tensor, slice]]:
    """Rows that run in one batch, with the columns that they fill, group by group.

    Args:
        mask: ``[R, T]`` int64, 1 on the tokens of each row, which are contiguous.
        together: which rows may run in one batch.

    Yields:
        ``[r]`` int64 numbers of rows, and their columns.
    """
    starts, lengths = mask.argmax(dim=1).tolist(), mask.sum(dim=1).tolist()
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, span in enumerate(zip(starts, lengths, strict=True)):
        rows.setdefault((*span, row) if together == "one row" else span, []).append(row)
    for (start, length, *_), found in sorted(rows.items()):
        yield torch.tensor(found, device=mask.device), slice(start, start + length)


def _found(model: nn.Module, logits: Logits, left: bool, words: int) -> Together:
    config = getattr(model, "config", None)
    plain = _plain_tokens(config, words)
    ids, mask, positions = _batch(torch.tensor(plain[:-1]), left)
    copy = make_blank(model)

    def run(pad: int, batches: list[tuple[Tensor, slice]], seed: int = 0) -> Tensor:
        """Logits of all rows in their order, ``[R, V]``, from these batches."""
        padded = ids.where(mask.bool(), pad)

        def call(network: nn.Module) -> Tensor:
            torch.manual_seed(seed)  # inside a fork of the generator, see `StandIns.run`
            each = [
                logits(
                    network,
                    padded[rows, columns],
                    mask[rows, columns],
                    positions[rows] - columns.start,
                )
                for rows, columns in batches
            ]
            return torch.cat(each)[:, 0].float()

        found: Tensor = StandIns(copy).run(call)
        return found[torch.cat([rows for rows, _ in batches]).argsort()]

    # Some models look for their own padding token, but the tokenizer decides what fills rows.
    own = getattr(config, "pad_token_id", None)
    pads = [plain[-1], *([own] if isinstance(own, int) and 0 <= own < words else [])]
    one_by_one = list(groups(mask, "one row"))
    alone = run(pads[0], one_by_one)
    if not alone.isfinite().all():
        raise ArithmeticError("stand-ins lead to numbers that are not finite")
    if _apart(run(pads[0], one_by_one, seed=1), alone) > NEAR:
        raise UserError(
            f"model.source: {type(model).__name__} draws random numbers in its forward, so that a "
            "row has another score each time, and losses would differ by the draws; choose "
            "another model"
        )
    every = [(torch.arange(len(ids)), slice(0, ids.shape[1]))]
    alike = _apart(run(pads[0], list(groups(mask, "one length"))), alone)
    if alike > NEAR:
        return "one row"
    # Rows of one length show the rounding of a model in batches of another size.
    rounding = max(ROUNDED, 20 * alike)
    padded = max(_apart(run(pad, every), alone) for pad in pads)
    return "all" if padded <= min(NEAR, rounding) else "one length"


def _check_that_it_runs(model: nn.Module, logits: Logits, left: bool, words: int) -> None:
    """Run one row through the model itself, for the message of its exception if it fails.

    Raises:
        UserError: with the reason.
    """
    device = next(model.parameters()).device
    if device.type == "meta":
        return
    plain = _plain_tokens(getattr(model, "config", None), words)
    ids, mask, positions = _batch(torch.tensor(plain[:-1]), left)
    try:
        with torch.no_grad():
            for rows, columns in groups(mask, "one row"):
                places = positions[rows] - columns.start
                inputs = (ids[rows, columns], mask[rows, columns], places)
                logits(model, *(one.to(device) for one in inputs))
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"model.source: {type(model).__name__} cannot be run on a prompt as a language model "
            f"is ({type(error).__name__}: {reason}); give a model that takes token ids and an "
            "attention mask alone"
        ) from error


def _plain_tokens(config: Any, words: int) -> list[int]:
    """Token ids without a special meaning in a configuration."""
    marks = special_tokens(config or {})
    return [token for token in range(1, min(words, 256)) if token not in marks]


def _batch(plain: Tensor, left: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of `LENGTHS` tokens of those given: ids, mask, and a position of each ``[R, 1]``."""
    width = max(LENGTHS)
    ids = torch.zeros(len(LENGTHS), width, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    positions = torch.empty(len(LENGTHS), 1, dtype=torch.int64)
    for row, length in enumerate(LENGTHS):
        start = width - length if left else 0
        ids[row, start : start + length] = plain[(5 * row + 3 * torch.arange(length)) % len(plain)]
        mask[row, start : start + length] = 1
        positions[row] = start + (length - 1 if left else length // 2)
    return ids, mask, positions


def _apart(got: Tensor, wanted: Tensor) -> float:
    """Largest difference of the logits of a row, relative to the differences between rows."""
    rows = (wanted - wanted.mean(dim=0)).abs().max()
    return float((got - wanted).abs().max() / rows.clamp(min=1e-6 * wanted.abs().max()))
