from typing import Any

from zolit.export.card import model_card

CONFIG: dict[str, Any] = {
    "model": {
        "source": {"path": "base", "gguf_file": None, "package": None},
        "quantizer": {"class_path": "zolit.strategies.Int8"},
        "perturber": {"class_path": "zolit.strategies.ScalePerturber", "init_args": {"eps": 0.01}},
        "optimizer": {"class_path": "zolit.optim.ZOSGD", "init_args": {"lr": 0.005}},
        "seed": 0,
    }
}
FIGURES = {"zero_shot": {"test_loss": 1.35}, "final": {"test_loss": 0.81}}


def test_what_became_of_the_language_is_told() -> None:
    summary = {
        **FIGURES,
        "text_loss": {"zero_shot": 5.5, "fine_tuned": 23.7},
        "findings": {"text": "the model no longer writes its language"},
    }
    card = model_card(CONFIG, summary, 20)
    assert "| loss of the prompts' own text | 5.5000 | 23.7000 |" in card
    assert "whether the model still writes" in card
    assert "- the model no longer writes its language" in card
    assert "ZOSGD (lr 0.005)" in card


def test_what_else_the_model_lost() -> None:
    text = {"text": "hamlet.txt", "zero_shot": 31.25, "fine_tuned": 48.5}
    moved = {"all": 0.0123, "lora_B": None}
    card = model_card(CONFIG, {**FIGURES, "general_text": text, "weights_moved": moved}, 20)
    assert "Perplexity of hamlet.txt" in card
    assert "31.2500 before, 48.5000 after" in card
    assert "all 1.2 %, lora_B from zero" in card


def test_a_summary_of_an_earlier_version_has_no_such_lines() -> None:
    card = model_card(CONFIG, FIGURES, 20)
    assert "own text" not in card
    assert "said of itself" not in card


def test_a_figure_that_is_no_number() -> None:
    card = model_card(CONFIG, {**FIGURES, "final": {"test_loss": None}}, 20)
    assert "| test loss | 1.3500 | - |" in card
