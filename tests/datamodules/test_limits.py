"""What a model's configuration says of its inputs."""

import transformers as hf

from zolit.datamodules.limits import context_length, padding_id
from zolit.models.source import ModelSource


def test_context_length() -> None:
    assert context_length(hf.LlamaConfig(max_position_embeddings=99)) == 99
    assert context_length(hf.RobertaConfig(max_position_embeddings=514, pad_token_id=1)) == 512
    assert context_length(hf.GPT2Config(n_positions=77)) == 77
    assert context_length(hf.BloomConfig()) is None


def test_padding_that_the_model_knows(causal_source: ModelSource) -> None:
    tokenizer = causal_source.load_tokenizer()
    config = causal_source.load_config()
    assert padding_id(tokenizer, config) == tokenizer.pad_token_id
    tokenizer.add_special_tokens({"pad_token": "[NEWPAD]"})
    assert tokenizer.pad_token_id >= config.vocab_size
    assert padding_id(tokenizer, config) == tokenizer.eos_token_id
    config.pad_token_id = 5
    assert padding_id(tokenizer, config) == 5
