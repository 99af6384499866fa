"""Models with two lists of blocks: an encoder and a decoder, and two stacks one after the other."""

from typing import Any

import torch
import transformers as hf
from tiny_models import VOCAB
from torch import Tensor, nn


class Block(nn.Module):
    """Two linear layers, and what may be added of elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, hidden_states: Tensor, extra: Tensor | None = None) -> Tensor:
        inside = torch.relu(self.up(hidden_states))
        return hidden_states + self.down(inside) + (0 if extra is None else extra)


class TwoStacks(nn.Module):
    """The second stack, longer and with an input of its own, begins at what the first made."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCAB, 8)
        self.first = nn.ModuleList(Block() for _ in range(2))
        self.second = nn.ModuleList(Block() for _ in range(3))
        self.head = nn.Linear(8, VOCAB, bias=False)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def get_output_embeddings(self) -> nn.Module:
        return self.head

    def forward(self, input_ids: Tensor, **options: Any) -> Tensor:
        start = hidden = self.words(input_ids)
        for block in self.first:
            hidden = block(hidden)
        hidden = torch.cat((start[:, :2], 2 * hidden), dim=1)
        for block in self.second:
            hidden = block(hidden, extra=hidden.mean(dim=1, keepdim=True))
        return self.head(hidden)


def two_stacks() -> nn.Module:
    torch.manual_seed(0)
    return TwoStacks().eval().requires_grad_(False)


def encoder_decoder() -> nn.Module:
    """A masked language model of BART's type: two encoder blocks, three decoder blocks."""
    torch.manual_seed(0)
    config = hf.BartConfig(
        vocab_size=VOCAB,
        d_model=32,
        encoder_layers=2,
        decoder_layers=3,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=32,
        pad_token_id=1,
    )
    return hf.BartForConditionalGeneration(config).eval().requires_grad_(False)
