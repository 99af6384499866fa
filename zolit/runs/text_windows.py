"""The windows of a calibration text, checked against the model that will read them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zolit.calibration.text import Window
from zolit.datamodules.limits import context_length, vocabulary_of
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.packages import find_in_package

_LENGTH = 512

Cut = Callable[[Path, Any, int, int, int], list[Window]]
"""``cut(file, tokenizer, samples, length, seed)``: windows of a text."""


def text_windows(
    source: ModelSource,
    group: str,
    text: str,
    package: str | None,
    samples: int,
    length: int | None,
    seed: int,
    cut: Cut,
) -> list[Window]:
    """The windows of a text for a model, which is not loaded for this.

    Args:
        source: of the model; its configuration and tokenizer are read.
        group: of the options, for messages.
        text: name of the file.
        package: an installed pip distribution that holds it; None for none.
        samples: number of windows.
        length: tokens of each; None for 512, or as many as the model reads.
        seed: draws them, where ``cut`` draws.
        cut: cuts them.

    Raises:
        UserError: if the text is not there, too short, or not of the model's vocabulary.
    """
    config = source.load_config()
    context = context_length(config)
    tokens = length or min(_LENGTH, context or _LENGTH)
    if context is not None and tokens > context:
        raise UserError(
            f"{group}.length: got {tokens}, the model reads at most {context} tokens; make it "
            "smaller or leave it out"
        )
    file = Path(text).expanduser() if package is None else find_in_package(package, text)
    tokenizer = source.load_tokenizer()
    windows = cut(file, tokenizer, samples, tokens, seed)
    known = vocabulary_of(config)
    highest = max(int(one.ids.max()) for one in windows)
    if known is not None and highest >= known:
        raise UserError(
            f"{group}.text: {str(file)!r} holds the token "
            f"{tokenizer.convert_ids_to_tokens(highest)!r} (id {highest}), which the tokenizer has "
            f"and the model has not, as its embedding has {known} rows; take it out of the text"
        )
    return windows
