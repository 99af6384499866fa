import io
from typing import Any

import pytest
from rich.console import Console

from zolit.commands.tables import result_table

SUMMARY: dict[str, Any] = {
    "steps": 30,
    "zero_shot": {"test_loss": 1.35, "test_accuracy": 0.58},
    "final": {"test_loss": 0.81, "test_accuracy": 0.6},
    "text_loss": {"zero_shot": 5.5, "fine_tuned": 23.7},
    "findings": {},
    "best": {"by": "val_loss", "step": 20, "val_loss": 0.685, "val_accuracy": 0.52},
    "validation": {"val_loss": 0.833, "val_accuracy": 0.53},
    "validation_step": 30,
    "best_checkpoint": "checkpoints/best.ckpt",
    "relative_step": 4.2e-3,
    "step_ms_median": 2293.0,
    "peak_memory_mb": 961.0,
    "memory": "resident",
    "fit_seconds": 282.0,
}


def shown(**changes: Any) -> str:
    """The table as printed, without its frame and its line ends."""
    stream = io.StringIO()
    Console(file=stream, width=100).print(result_table({**SUMMARY, **changes}, "runs/mine"))
    for line in "│┃┡╇┩├┼┤└┴┘━─┏┳┓":
        stream = io.StringIO(stream.getvalue().replace(line, " "))
    return " ".join(stream.getvalue().split())


def test_it_names_the_step_and_why_it_was_chosen() -> None:
    text = shown()
    assert "runs/mine: 30 steps; fine-tuned: step 20, the best by val loss (0.6850)" in text
    assert "val loss at step 20 (best) 0.6850" in text
    assert "val loss at step 30 (last) 0.8330" in text
    assert "val accuracy at step 20 (best) 0.5200" in text
    assert "loss of the prompts' own text 5.5000 23.7000" in text
    assert "a step moves the weights by 0.42 %" in text


@pytest.mark.parametrize("steps", [30, 31])
def test_the_last_validation_where_it_is_the_best(steps: int) -> None:
    text = shown(
        steps=steps, best={"by": "val_loss", "step": 30, "val_loss": 0.833, "val_accuracy": 0.53}
    )
    assert "step 30, the best by val loss (0.8330)" in text
    assert "(best)" not in text
    assert "val loss at step 30 (last) 0.8330" in text


@pytest.mark.parametrize("final", [SUMMARY["final"], None])
def test_a_run_without_validation(final: dict[str, float] | None) -> None:
    text = shown(best=None, best_checkpoint=None, validation={}, validation_step=None, final=final)
    assert "fine-tuned: step 30, the last: no validation chose another" in text
    assert "val loss" not in text


def test_a_checkpoint_that_a_users_callback_chose() -> None:
    text = shown(best=None, best_checkpoint="mine/epoch=3.ckpt")
    assert "fine-tuned: the best checkpoint, mine/epoch=3.ckpt" in text


def test_what_was_found_stands_below() -> None:
    text = shown(findings={"worse": "worse than zero-shot: test loss 1.3 -> 1.4"})
    assert text.endswith("zolit: worse than zero-shot: test loss 1.3 -> 1.4")


def test_what_else_the_model_lost() -> None:
    text = {"text": "hamlet.txt", "zero_shot": 31.25, "fine_tuned": 48.5}
    moved = {"all": 0.0123, "q_proj": 0.031, "v_proj": 0.02, "lora_B": None}
    told = shown(general_text=text, weights_moved=moved)
    assert "perplexity of hamlet.txt 31.2500 48.5000" in told
    assert "all steps moved the weights by 1.2 %" in told
    assert "farthest: q_proj 3.1 %" in told
    alone = shown(weights_moved={"all": 0.5, "q_proj": 0.5})
    assert "50 %" in alone
    assert "farthest" not in alone


def test_figures_that_are_no_numbers() -> None:
    text = shown(final={"test_loss": None}, relative_step=None, step_ms_median=None, text_loss=None)
    assert "test loss 1.3500 -" in text
