"""The text that the model of a run writes behind prompts."""

from collections.abc import Sequence
from typing import Any

import torch

from zolit.arguments import at_least
from zolit.datamodules.chat import ChatTemplate
from zolit.datamodules.limits import context_length, padding_id, vocabulary_of
from zolit.datamodules.prompt_encoder import special_tokens_around
from zolit.datamodules.values import UnfitValueError
from zolit.errors import UserError
from zolit.objectives.answer_batch import Writing
from zolit.objectives.decoding import Decoder


def write_behind(
    module: Any,
    decoder: Decoder,
    prompts: Sequence[str],
    most: int,
    stops: Sequence[str] = (),
    chat: bool = False,
) -> list[str]:
    """What a model writes behind prompts, greedily.

    Args:
        module: a `TuningModule` whose model is loaded.
        decoder: of its model (`zolit.objectives.decoding.find_decoder`).
        prompts: texts, in one batch.
        most: most tokens that are written behind each.
        stops: texts that end what is written; they are not part of it.
        chat: whether a prompt is what the user says in the tokenizer's chat template.

    Returns:
        A text for each prompt, without blanks around it.

    Raises:
        UserError: if a prompt is empty or too long, or the tokenizer has no chat template.
    """
    at_least("max_new_tokens", most, instead="try 50")
    config, tokenizer = module.source.load_config(), module.source.load_tokenizer()
    rows = [_tokens(one, tokenizer, chat) for one in prompts]
    context, known = context_length(config), vocabulary_of(config)
    for prompt, row in zip(prompts, rows, strict=True):
        if not row:
            raise UserError(f"prompt: got {prompt!r}, which has no tokens; give a text to go on")
        if context is not None and len(row) + most > context:
            raise UserError(
                f"max_new_tokens: the prompt {prompt[:40]!r} has {len(row)} tokens and {most} are "
                f"to be written, but the model reads at most {context}; lower it, or shorten the "
                "prompt"
            )
        if known is not None and max(row) >= known:
            raise UserError(
                f"prompt: {prompt[:40]!r} holds a token that the model has no embedding for (id "
                f"{max(row)} of {known}); take it out of the text"
            )
    device = next(module.network.parameters()).device
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), padding_id(tokenizer, config))
    mask = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    end = tokenizer.eos_token_id
    how = Writing(tokenizer, most, (end,) if isinstance(end, int) else (), tuple(stops))
    module.network.eval()
    found = decoder.write(module.network, ids.to(device), mask.to(device), most, how.ends, how.done)
    return [how.text(one) for one in found]


def _tokens(prompt: str, tokenizer: Any, chat: bool) -> list[int]:
    before, _ = special_tokens_around(tokenizer)
    text = prompt
    if chat:
        template = ChatTemplate(tokenizer, starts=before == [tokenizer.bos_token_id])
        try:
            text = template.text([{"role": "user", "content": prompt}], answers=True)
        except UnfitValueError as error:
            raise UserError(f"chat: the prompt {prompt[:40]!r} is {error}.") from error
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return [*before, *ids] if prompt else []
