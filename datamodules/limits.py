"""What a model's configuration says of its inputs: context, vocabulary, the padding token."""

from typing import Any

from zolit.errors import UserError

# Model types whose position numbers start after the padding index, which shortens their context.
OFFSET_POSITIONS = (
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "camembert",
    "data2vec-text",
    "longformer",
    "xmod",
)


def context_length(config: Any) -> int | None:
    """Tokens that fit in the model, or None where its configuration sets no limit."""
    config = config.get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    if length is None or length <= 0:
        return None
    if config.model_type in OFFSET_POSITIONS:
        return int(length) - int(config.pad_token_id) - 1
    return int(length)


def most_tokens(max_length: int | None, context: int | None) -> int | None:
    """The most tokens of a prompt with its answer; None for no limit.

    Args:
        max_length: that the user wants; None for the model's.
        context: of the model; None where it sets no limit.

    Raises:
        UserError: the model reads fewer tokens than the user wants.
    """
    if max_length is None or context is None:
        return context if max_length is None else max_length
    if max_length > context:
        raise UserError(
            f"max_length: got {max_length}, the model reads at most {context} tokens; make it "
            "smaller or leave it out."
        )
    return max_length


def padding_id(tokenizer: Any, config: Any) -> int:
    """The token id that fills unused positions; the attention mask hides them.

    It is the tokenizer's padding token, or another one if the model has no embedding for it.

    Args:
        tokenizer: of transformers.
        config: of the model.
    """
    known = vocabulary_of(config)
    text_config = config.get_text_config()
    choices = (tokenizer.pad_token_id, getattr(text_config, "pad_token_id", None))
    for choice in (*choices, tokenizer.eos_token_id):
        if isinstance(choice, int) and choice >= 0 and (known is None or choice < known):
            return choice
    return 0


def vocabulary_of(config: Any) -> int | None:
    """Rows of a model's embedding; None where its configuration does not say."""
    size = getattr(config.get_text_config(), "vocab_size", None)
    return size if isinstance(size, int) and size > 0 else None
