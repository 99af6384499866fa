"""A byte-level BPE tokenizer trained on a few lines."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def byte_bpe(corpus: list[str], special: list[str], size: int) -> Tokenizer:
    """At most ``size`` tokens, the special ones first, common words of ``corpus`` whole."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer
