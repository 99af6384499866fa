from zolit.datamodules.collate import Collate
from zolit.datamodules.encode import Example

PAD = 99


def test_answers_of_one_token_share_a_row() -> None:
    batch = Collate([[7], [8], [9]], PAD)([Example([1, 2, 3], 2), Example([4], 0)])
    assert batch.input_ids.tolist() == [[1, 2, 3], [PAD, PAD, 4]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.answer_positions.tolist() == [[2], [2]]
    assert batch.answer_ids.tolist() == [[7], [8], [9]]
    assert (batch.labels.tolist(), batch.options_per_prompt, len(batch)) == ([2, 0], 1, 2)


def test_longer_answers_get_a_row_each() -> None:
    batch = Collate([[7], [8, 9]], PAD)([Example([1, 2], 1), Example([3], 0)])
    assert batch.input_ids.tolist() == [
        [PAD, 1, 2, 7],
        [1, 2, 8, 9],
        [PAD, PAD, 3, 7],
        [PAD, 3, 8, 9],
    ]
    # Position p predicts token p + 1.
    assert batch.answer_positions.tolist() == [[2, -1], [1, 2], [2, -1], [1, 2]]
    assert batch.answer_ids.tolist() == [[7, -1], [8, 9]]
    assert (batch.labels.tolist(), batch.options_per_prompt, len(batch)) == ([1, 0], 2, 2)


def test_masked_rows_are_padded_on_the_right() -> None:
    batch = Collate([[7], [8]], PAD)([Example([1, 5, 3], 0, mask=1), Example([5], 1, mask=0)])
    assert batch.input_ids.tolist() == [[1, 5, 3], [5, PAD, PAD]]
    assert batch.attention_mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.answer_positions.tolist() == [[1], [0]]
