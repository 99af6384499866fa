"""Greedy decoding of a batch of prompts, with a cache of keys and values."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zolit.compat import DynamicCache
from zolit.errors import UserError
from zolit.models.anatomy import named_blocks, word_embeddings
from zolit.models.families import answer_logits, family_of
from zolit.models.families.base import accepted_arguments
from zolit.models.passes.calls import Stage, unwrapped
from zolit.models.special_tokens import special_tokens
from zolit.models.trials.stand_ins import StandIns, make_blank
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.padding import Together, groups, rows_together

log = logging.getLogger(__name__)

Done = Callable[[Sequence[int]], bool]
"""Whether the tokens that were written so far are a whole answer."""

TOLERANCE = 1e-3
"""Differences of logits, relative to those between rows, that are no rounding of float32."""


@dataclass(frozen=True)
class Decoder:
    """How a model writes: found once by `find_decoder`.

    Attributes:
        together: which prompts may run in one batch.
        cached: whether the model goes on from keys and values that it has kept. If not, it reads
            the whole text again for each token.

    Example:
        ::

            decoder = find_decoder(model)
            tokens = decoder.write(model, input_ids, attention_mask, most=20, ends=[2])
    """

    together: Together = "all"
    cached: bool = True

    @torch.no_grad()
    def write(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor,
        most: int,
        ends: Iterable[int] = (),
        done: Done | None = None,
        copies: int = 1,
    ) -> list[list[int]]:
        """The likeliest token again and again, as transformers' ``generate(do_sample=False)``.

        Args:
            model: causal, in eval mode.
            input_ids: ``[B, T]`` int64, padded on the left.
            attention_mask: ``[B, T]`` int64, 1 on real tokens.
            most: tokens that are written at most.
            ends: ids of tokens that end a text, beside those of the model's generation config.
            done: asked after each token of a row; True ends the row.
            copies: how often the rows are repeated, copy after copy.

        Returns:
            The tokens of each of ``copies * B`` rows, without the one that ended it.

        Raises:
            UserError: if the model does not predict next tokens.
        """
        if not family_of(model).writes_on:
            raise UserError(
                f"model.source: a {type(model).__name__} does not predict the next token, so that "
                "it cannot write; give a causal model"
            )
        stops = frozenset(ends) | _own_ends(model)
        count = len(input_ids)
        found: list[list[int]] = [[] for _ in range(copies * count)]
        with _plain_blocks(model):
            for rows, columns in _parts(attention_mask, self.together):
                # Repeated within each part: its halves may read two versions of the weights.
                ids, mask = (
                    part[rows, columns].repeat(copies, 1) for part in (input_ids, attention_mask)
                )
                written = iter(_greedy(model, ids, mask, self.cached, most, stops, done))
                for copy in range(copies):
                    for row in rows.tolist():
                        found[copy * count + row] = next(written)
        return found

    @torch.no_grad()
    def rehearse(self, model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The passes of two tokens, ``[B, 1, V]``, without choosing any: for an estimate of memory.

        Args:
            model: causal, on any device.
            input_ids: ``[B, T]`` int64, padded on the left.
            attention_mask: ``[B, T]`` int64.
        """
        network: Any = model
        cache = DynamicCache(config=network.config) if self.cached else None
        with _plain_blocks(model):
            _next_logits(network, input_ids, attention_mask, cache)
            mask = torch.cat((attention_mask, torch.ones_like(attention_mask[:, :1])), dim=1)
            again = torch.cat((input_ids, input_ids[:, -1:]), dim=1)
            return _next_logits(network, again[:, -1:] if self.cached else again, mask, cache)


def find_decoder(model: nn.Module) -> Decoder:
    """How a model may write: whether in batches with padding, and with a cache.

    Both are found by trials with stand-ins for its weights, so that a model whose cache does not
    give what a whole forward gives is never asked to use it.

    Args:
        model: prepared, on any device; its blocks are not compiled.

    Raises:
        UserError: if the model cannot be called as a language model.
    """
    if not family_of(model).writes_on:
        return Decoder()
    together = rows_together(model, answer_logits, left=True)
    cached = _cache_is_right(model, together)
    if not cached:
        log.warning(
            "%s does not go on from a cache of keys and values: each token takes a whole pass",
            type(model).__name__,
        )
    return Decoder(together, cached)


def _plain_blocks(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which blocks run neither compiled nor once for both signs of a pair.

    A block that extends a cache would be compiled again for each layer, whose number is a constant
    of its code; and the halves of a pair go on from tokens of their own.
    """
    return unwrapped(named_blocks(model).values(), Stage.COMPILED, Stage.PREFIX)


def written_answers(
    model: nn.Module, batch: AnswerBatch, decoder: Decoder, copies: int = 1
) -> list[str]:
    """The answers that a model writes to a batch.

    Args:
        model: causal, in eval mode.
        batch: with ``writing``.
        decoder: how the model writes.
        copies: how often the rows are repeated, copy after copy.

    Returns:
        ``copies * B`` texts.
    """
    how: Any = batch.writing
    ids, mask = batch.prompts()
    tokens = decoder.write(model, ids, mask, how.most, how.ends, how.done, copies)
    return [how.text(one) for one in tokens]


def _greedy(
    model: nn.Module,
    ids: Tensor,
    mask: Tensor,
    cached: bool,
    most: int,
    ends: frozenset[int],
    done: Done | None,
) -> list[list[int]]:
    network: Any = model
    found: list[list[int]] = [[] for _ in ids]
    going = set(range(len(ids)))
    cache = DynamicCache(config=network.config) if cached else None
    new = ids
    for _ in range(most):
        chosen = _next_logits(network, new, mask, cache)[:, -1].argmax(dim=-1)
        for row, token in enumerate(chosen.tolist()):
            if row not in going:
                continue
            if token in ends:
                going.remove(row)
                continue
            found[row].append(token)
            if done is not None and done(found[row]):
                going.remove(row)
        if not going:
            break
        mask = torch.cat((mask, torch.ones_like(mask[:, :1])), dim=1)
        step = chosen.unsqueeze(1)
        new = step if cached else torch.cat((new, step), dim=1)
    return found


def _next_logits(network: Any, new: Tensor, mask: Tensor, cache: Any) -> Tensor:
    """Logits behind the last token of each row, ``[B, 1, V]``.

    Args:
        network: the model.
        new: ``[B, T]`` tokens that the cache does not hold yet.
        mask: of all tokens, those in the cache included.
        cache: of transformers, which is extended; None for none.
    """
    accepted = accepted_arguments(type(network))
    inputs: dict[str, Any] = {"input_ids": new, "attention_mask": mask}
    if "position_ids" in accepted:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        inputs["position_ids"] = positions[:, positions.shape[1] - new.shape[1] :]
    if "use_cache" in accepted:
        inputs["use_cache"] = cache is not None
    if cache is not None:
        inputs["past_key_values"] = cache
    if "logits_to_keep" in accepted:
        inputs["logits_to_keep"] = 1
    logits: Tensor = network(**inputs).logits
    return logits[:, -1:]


def _own_ends(model: Any) -> frozenset[int]:
    """The tokens that end a text by the model's own generation config."""
    found = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = found if isinstance(found, list | tuple) else [found]
    return frozenset(one for one in listed if isinstance(one, int))


def _parts(mask: Tensor, together: Together) -> list[tuple[Tensor, slice]]:
    if together == "all":
        return [(torch.arange(len(mask), device=mask.device), slice(0, mask.shape[1]))]
    return list(groups(mask, together))


def _cache_is_right(model: nn.Module, together: Together) -> bool:
    """Whether tokens one by one with a cache have the logits of a whole forward."""
    accepted = accepted_arguments(type(model))
    words = word_embeddings(model)
    if words is None or not {"past_key_values", "use_cache"} <= accepted:
        return False
    marks = special_tokens(getattr(model, "config", None) or {})
    plain = torch.tensor([one for one in range(1, min(len(words), 256)) if one not in marks])
    rows, width, kept = 3, 12, 9
    ids = plain[(7 * torch.arange(rows * width) % len(plain))].view(rows, width)
    short = torch.tensor([[0], [4], [2]]) if together == "all" else torch.zeros(rows, 1)
    mask = (torch.arange(width) >= short).long()
    if together == "one row":
        ids, mask = ids[:1], mask[:1]

    def whole(network: Any) -> Tensor:
        each = [_next_logits(network, ids[:, :n], mask[:, :n], None) for n in range(kept, width)]
        return torch.cat(each, dim=1).float()

    def piecewise(network: Any) -> Tensor:
        cache = DynamicCache(config=network.config)
        each = [_next_logits(network, ids[:, :kept], mask[:, :kept], cache)]
        for n in range(kept + 1, width):
            each.append(_next_logits(network, ids[:, n - 1 : n], mask[:, :n], cache))
        return torch.cat(each, dim=1).float()

    copy = make_blank(model)
    try:
        wanted, got = StandIns(copy).run(whole), StandIns(copy).run(piecewise)
    # The model's own code may raise anything on a cache that is not its own.
    except Exception:
        return False
    apart = (wanted - wanted.mean(dim=(0, 1))).abs().max()
    return bool((got - wanted).abs().max() <= TOLERANCE * apart.clamp(min=1e-6))
