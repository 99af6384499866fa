"""Texts that a model writes for tasks of lm-evaluation-harness."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from torch import nn

from zolit.errors import UserError
from zolit.objectives.decoding import Decoder

WRITTEN = 256
"""Tokens of a text whose task sets no number, the harness's own default."""

_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature"}


class Settings(NamedTuple):
    """How a text is written.

    Attributes:
        stops: texts that end it; they are not part of it.
        most: tokens that are written at most.
    """

    stops: tuple[str, ...]
    most: int


def by_settings(requests: Sequence[Any], context: int) -> list[tuple[Settings, list[int]]]:
    """Requests that may be written in one batch.

    Args:
        requests: of the harness, with ``(text, generation_kwargs)`` as their arguments.
        context: tokens that the model reads at most.

    Returns:
        Settings with the numbers of the requests that have them.

    Raises:
        UserError: a task asks for samples or beams, or leaves no room for a context.
    """
    grouped: dict[Settings, list[int]] = {}
    for number, request in enumerate(requests):
        given: Any = normalize_gen_kwargs(request.args[1], WRITTEN)
        others = sorted(set(given) - _KNOWN)
        if given["do_sample"] or others:
            raise UserError(
                f"generation_kwargs: a task asks for {', '.join(others) or 'do_sample'}, and zolit "
                "writes the likeliest token; set do_sample: false and leave out the others"
            )
        if not 1 <= given["max_gen_toks"] < context:
            raise UserError(
                f"generation_kwargs: a task asks for {given['max_gen_toks']} tokens and the model "
                f"reads {context} with its context; set a smaller max_gen_toks in the task"
            )
        settings = Settings(tuple(one for one in given["until"] if one), given["max_gen_toks"])
        grouped.setdefault(settings, []).append(number)
    return list(grouped.items())


def written_texts(
    model: nn.Module,
    decoder: Decoder,
    tokenizer: Any,
    rows: Sequence[Sequence[int]],
    settings: Settings,
    end: int,
    pad: int,
) -> list[str]:
    """What a model writes behind contexts, greedily.

    Args:
        model: causal, in eval mode.
        decoder: how it writes.
        tokenizer: of transformers.
        rows: token ids of each context.
        settings: what ends a text.
        end: id of the token that ends a text, beside those of the model's generation config.
        pad: token id of unused positions.

    Returns:
        A text for each row, up to the first stop; blanks around it are kept.
    """
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad)
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1

    def text(tokens: Sequence[int]) -> str:
        return str(tokenizer.decode(list(tokens), skip_special_tokens=True))

    def done(tokens: Sequence[int]) -> bool:
        so_far = text(tokens)
        return any(stop in so_far for stop in settings.stops)

    device = next(model.parameters()).device
    found = decoder.write(
        model,
        ids.to(device),
        mask.to(device),
        settings.most,
        (end,),
        done if settings.stops else None,
    )
    return [postprocess_generated_text(text(one), list(settings.stops), None) for one in found]
