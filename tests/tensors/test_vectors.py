"""Vectors cut into blocks have the coordinates of one long row."""

import torch

from zolit.noise import WORD, Direction, control_table, coordinates
from zolit.tensors.vectors import WIDTH, Vectors, padded


def test_blocks_make_the_noise_of_a_row() -> None:
    lengths, direction = [600, 40, 512, 1536], Direction("gaussian", bits=4, density=0.5)
    controls = control_table(direction, 123, [5, 0, 2, 9])
    vectors = Vectors.of(lengths, torch.device("cpu"))
    blocks = coordinates(direction, vectors.by_block(controls), vectors.rows, 1, WIDTH // WORD)
    assert blocks.shape == vectors.shape
    for part, length, control in zip(vectors.split(blocks), lengths, controls, strict=True):
        first = torch.zeros(1, dtype=torch.int32)
        row = coordinates(direction, control, first, 1, -(-length // WORD))
        assert torch.equal(part, row.flatten()[:length])


def test_split_keeps_leading_dimensions() -> None:
    vectors = Vectors.of([3, WIDTH + 1], torch.device("cpu"))
    assert vectors.shape[0] == 3
    blocks = torch.arange(2 * 3 * WIDTH).view(2, *vectors.shape)
    short, long = vectors.split(blocks)
    assert short.tolist() == [[0, 1, 2], [3 * WIDTH, 3 * WIDTH + 1, 3 * WIDTH + 2]]
    assert long.shape == (2, WIDTH + 1)
    assert long[0, -1] == 2 * WIDTH


def test_padded_fills_blocks() -> None:
    assert [padded(n) for n in (1, WIDTH, WIDTH + 1)] == [WIDTH, WIDTH, 2 * WIDTH]
