"""Vectors cut into words have the coordinates of one long row."""

import torch

from zolit.coordinates.vectors import Vectors
from zolit.noise import WORD, Direction, control_table, coordinates
from zolit.supports import Hashed, support_table


def test_words_make_the_noise_of_a_row() -> None:
    lengths, direction = [600, 40, 512, 1536], Direction("gaussian", bits=4)
    sites = [5, 0, 2, 9]
    half = support_table([(site, Hashed(0.5, 0)) for site in sites])
    controls = torch.cat((control_table(123, sites), half), dim=1)
    vectors = Vectors.of(lengths, torch.device("cpu"))
    words = coordinates(direction, vectors.by_word(controls), vectors.rows, 1, 1)
    assert words.shape == vectors.shape
    for part, length, control in zip(vectors.split(words), lengths, controls, strict=True):
        first = torch.zeros(1, dtype=torch.int32)
        row = coordinates(direction, control, first, 1, -(-length // WORD))
        assert torch.equal(part, row.flatten()[:length])


def test_split_keeps_leading_dimensions() -> None:
    vectors = Vectors.of([3, WORD + 1], torch.device("cpu"))
    assert vectors.shape[0] == 3
    words = torch.arange(2 * 3 * WORD).view(2, *vectors.shape)
    short, long = vectors.split(words)
    assert short.tolist() == [[0, 1, 2], [3 * WORD, 3 * WORD + 1, 3 * WORD + 2]]
    assert long.shape == (2, WORD + 1)
    assert long[0, -1] == 2 * WORD
