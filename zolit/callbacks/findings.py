"""The sentences that tell a user that a run does nothing, or ruins the model."""

import math

from zolit.caller import setting
from zolit.evaluations import Mode
from zolit.evaluations.answers import AnswerPattern

LEAST_MOVE = 1e-4
"""A run that moves the weights by less than this share of their size changes no answer. For
comparison: neighbouring numbers of bfloat16 differ by 4e-3 of their size."""

_FARTHEST = 6.0
"""No coordinate of a model is farther from its mean than this many standard deviations."""

MOST_FORGOTTEN = 1.0
"""The loss of the prompts' own text may rise by this many nats before a user is told."""


def of_step_length(relative: float, steps: int, total: int | None, lr: str) -> str | None:
    """The sentence for steps too short to do anything, or larger than the weights; else None.

    Args:
        relative: length of a step beside the weights that it moves, root mean square so far.
        steps: made so far.
        total: of the run, None if it is not known.
        lr: the learning rate, with where it is from.
    """
    reach = relative * math.sqrt(total or steps)
    if relative > 1:
        return f"a step moves the weights by {relative:.1f} times their size; lower lr ({lr})"
    if not relative or reach >= LEAST_MOVE:
        return None
    return (
        f"a step moves the weights by {relative:.1g} of their size, all {total or steps} steps by "
        f"about {reach:.1g}: too little to change an answer; raise lr ({lr})"
    )


def of_held_back(codes: float) -> str | None:
    """The sentence for a run in which error feedback has not moved any code yet; else None.

    Args:
        codes: expected move of a code so far, in codes, where it is longest.
    """
    if not 0 < codes * _FARTHEST < 0.5:
        return None
    return (
        f"no code has moved yet: error feedback waits for half a code, and the steps so far add up "
        f"to about {codes:.1g} of one; raise lr, or set quantizer.keep_error"
    )


def of_equal_losses(steps: int) -> str:
    """The sentence for steps in a row that each found equal losses on both sides of a direction."""
    return (
        f"the last {steps} steps moved nothing: the loss is the same at both ends of their "
        "directions; if it was so from the start raise eps, else the model has died: lower lr"
    )


def of_answers(found: AnswerPattern, before: AnswerPattern | None) -> tuple[str, str] | None:
    """Kind and sentence, if the answers do not depend on the rows; else None.

    Args:
        found: of a validation or test.
        before: of the untuned model, None if it is not known.
    """
    if found.constant:
        advice = (
            "it never did: look at the template and the words"
            if before is not None and before.constant
            else "lower lr"
        )
        return "constant", (
            f"every one of {found.rows} rows gets the same scores (loss of a guess: "
            f"{math.log(found.classes):.4f}): the model no longer reads its input; {advice}"
        )
    if found.one_answer and not (before is not None and before.one_answer):
        return "one answer", (
            f"all {found.rows} rows get one answer, though {found.right} are right; if the next "
            "validation says so again, lower lr"
        )
    return None


def of_loss(loss: float, classes: int | None, zero_shot: float | None) -> str | None:
    """The sentence for a loss so high that the steps must have ruined the model; else None.

    Args:
        loss: in nats.
        classes: candidate answers, None if they are not known.
        zero_shot: loss of the untuned model on the test rows, None if it is not known.
    """
    if not math.isfinite(loss):
        if zero_shot is not None and not math.isfinite(zero_shot):
            return (
                f"the loss is {loss}, as it was before the first step: no step caused it; look at "
                "the rows, the loss function and the untuned model"
            )
        return f"the loss is {loss}: the steps are too long for this model; lower lr, or eps"
    guess = math.log(classes) if classes else 0.0
    if zero_shot is None:
        if not classes or loss <= 2 * guess:
            return None
        return (
            f"the loss {loss:.4f} is twice that of a guess ({guess:.4f}); if the untuned model was "
            "better, lower lr"
        )
    if loss <= max(guess, 2 * zero_shot):
        return None
    return (
        f"the loss {loss:.4f} is more than twice that of the untuned model ({zero_shot:.4f}): the "
        "steps are too long; lower lr"
    )


def of_guess(loss: float | None, classes: int | None) -> str | None:
    """The sentence for a tuned model with a loss above that of a guess, ln C; else None.

    Args:
        loss: of the test after fitting, in nats; None if it is not known.
        classes: candidate answers, None if they are not known.
    """
    if loss is None or not classes or not math.isfinite(loss):
        return None
    guess = math.log(classes)
    # A difference that the sentence cannot show is none.
    if loss <= guess or f"{loss:.4f}" == f"{guess:.4f}":
        return None
    return (
        f"the test loss {loss:.4f} is above {guess:.4f}, that of a guess among {classes} answers: "
        "the probabilities are worth less than none, whatever the accuracy; take more steps, "
        "another lr, or words that the model would use"
    )


def of_result(
    before: float | None, after: float | None, name: str = "loss", mode: Mode = "min"
) -> str | None:
    """The sentence for a figure of the test that tuning made worse; else None.

    Args:
        before: zero-shot; None if it is not known.
        after: fine-tuned; None if it is not known.
        name: of the figure.
        mode: whether it is better when it is smaller or larger.
    """
    # A difference that the sentence cannot show is none.
    if before is None or after is None or f"{after:.4f}" == f"{before:.4f}":
        return None
    if after < before if mode == "min" else after > before:
        return None
    return (
        f"worse than zero-shot: test {name.replace('_', ' ')} {before:.4f} -> {after:.4f}; take "
        "another lr (lower if the validations got worse, higher if they hardly moved), more steps "
        "or more rows"
    )


def of_text(before: float | None, after: float | None) -> str | None:
    """The sentence for a model that has forgotten how to write; else None.

    Args:
        before: loss of the prompts' own text in nats a token, zero-shot; None if not measured.
        after: fine-tuned; None if not measured.
    """
    if before is None or after is None or after <= before + MOST_FORGOTTEN:
        return None
    return (
        f"the loss of the prompts' own text went from {before:.2f} to {after:.2f} nats a token: "
        "the model writes worse than before; lower lr if it is to do more than the task"
    )


def of_missing_validation(batches: int, interval: float, epoch: float) -> str:
    """The sentence for a run that will end before its first validation.

    Args:
        batches: of the run.
        interval: after how many the first validation would come.
        epoch: batches of an epoch.
    """
    return (
        f"no validation will happen: the run takes {batches} batches, the first comes after "
        f"{interval:.0f} (an epoch has {epoch:.0f}), so that the figures will be those of the last "
        f"step; set {setting('trainer.val_check_interval', max(1, batches // 4))} or so, with "
        f"{setting('trainer.check_val_every_n_epoch', None)}"
    )
