"""A run under lm-evaluation-harness, beside the harness's own model on the exported floats."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM

from zolit.cli import main
from zolit.errors import UserError
from zolit.harness.model import HarnessModel

WORDS = ["film", "is", "bright", "and", "short", "dull", "long", "22", ",", "negative", "22\n"]
NEAR = 1e-4
"""Nats by which log-probabilities in float32 may differ: batches are put together otherwise."""


def texts(count: int, longest: int, seed: int) -> list[str]:
    draw = random.Random(seed)  # noqa: S311
    return [" ".join(draw.choices(WORDS, k=draw.randint(1, longest))) for _ in range(count)]


def asked(*arguments: tuple[Any, ...]) -> list[Any]:
    """Requests as far as a model reads them."""
    return [SimpleNamespace(args=one, task_name=None) for one in arguments]


@pytest.fixture(scope="session", params=["finished", "finished_int4"])
def models(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[HarnessModel, HFLM]:
    """Of one run: on its stored weights, and the harness's own on its exported floats."""
    folder = tmp_path_factory.mktemp("floats") / "model"
    one = request.getfixturevalue(request.param)
    main(["export", str(one), "--to", str(folder)])
    theirs = HFLM(pretrained=str(folder), dtype="float32", device="cpu", batch_size=3)
    return HarnessModel(one, batch_size=5), theirs


def test_log_probabilities_are_those_of_the_floats(models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = models
    contexts, answers = texts(30, 12, 1), texts(30, 5, 2)
    pairs = [(context, f" {answer}") for context, answer in zip(contexts, answers, strict=True)]
    # Options behind one prompt, a blank at the end of a prompt, no prompt, and one that is cut.
    pairs += [("Question: film\nAnswer:", f" {answer}") for answer in ("bright", "dull", "22")]
    pairs += [("film is ", "dull"), ("", "film is bright"), (" ".join(WORDS * 9), " negative")]
    got, wanted = ours.loglikelihood(asked(*pairs)), theirs.loglikelihood(asked(*pairs))
    for pair, (total, greedy), (right, likeliest) in zip(pairs, got, wanted, strict=True):
        assert total == pytest.approx(right, abs=NEAR), pair
        assert greedy == likeliest, pair


def test_whole_texts(models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = models
    each = [(text,) for text in (*texts(4, 10, 3), *texts(3, 150, 4), "film")]
    got, wanted = (
        ours.loglikelihood_rolling(asked(*each)),
        theirs.loglikelihood_rolling(asked(*each)),
    )
    assert got == pytest.approx(wanted, abs=10 * NEAR)


def test_what_is_written(models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = models
    kinds = [
        {"until": ["\n"], "max_gen_toks": 10},
        {"until": [" is", "22"], "max_gen_toks": 12, "do_sample": False},
        {"max_gen_toks": 5, "temperature": 0.0},
    ]
    each = [(text, kinds[n % 3]) for n, text in enumerate(texts(12, 40, 5))]
    assert ours.generate_until(asked(*each)) == theirs.generate_until(asked(*each))


def test_the_base_of_a_run_and_a_recipe_without_one(finished: Path, tmp_path: Path) -> None:
    requests = asked(("film is", " bright"), ("Review: film\nSentiment:", " negative"))
    tuned = HarnessModel(finished).loglikelihood(requests)
    base = HarnessModel(finished, base=True).loglikelihood(requests)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes((finished / "config.yaml").read_bytes())
    assert HarnessModel(recipe).loglikelihood(requests) == base
    assert all(one[0] != other[0] for one, other in zip(tuned, base, strict=True))


def test_tokens(models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = models
    for text in ("film is bright", " film", "<s>film", "</s>", ""):
        for special in (None, True, False):
            assert ours.tok_encode(text, special) == theirs.tok_encode(text, special)
    assert (ours.eot_token_id, ours.prefix_token_id, ours.max_length) == (
        theirs.eot_token_id,
        theirs.prefix_token_id,
        theirs.max_length,
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"do_sample": True, "temperature": 0.7}, "asks for do_sample"),
        ({"num_beams": 4}, "asks for num_beams"),
        ({"max_gen_toks": 64}, "asks for 64 tokens and the model reads 64"),
    ],
)
def test_what_zolit_does_not_write(
    models: tuple[HarnessModel, HFLM], settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        models[0].generate_until(asked(("film", settings)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": "auto"}, "batch_size: got 'auto'"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"max_length": 65}, "max_length: got 65, expected 2 to 64"),
        ({"max_length": 1}, "max_length: got 1"),
    ],
)
def test_arguments_out_of_range(finished: Path, arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        HarnessModel(finished, **arguments)


def test_neither_a_run_nor_a_module() -> None:
    with pytest.raises(UserError, match="run: expected the folder of a run"):
        HarnessModel()


def test_an_answer_longer_than_the_context(models: tuple[HarnessModel, HFLM]) -> None:
    with pytest.raises(UserError, match="max_length: an answer of the tasks has"):
        models[0].loglikelihood(asked(("film", " film" * 70)))


def test_contexts_that_are_cut_are_told(
    models: tuple[HarnessModel, HFLM], capsys: pytest.CaptureFixture[str]
) -> None:
    models[0].loglikelihood(asked((" film" * 90, " dull"), ("film", " dull")))
    assert "tasks: 1 of 2 contexts are cut at their beginning" in capsys.readouterr().err


def test_a_model_that_fills_masks(tiny_roberta: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "masked.yaml"
    recipe.write_text(
        f"model: {{source: {{path: {tiny_roberta}}}, quantizer: Int8, perturber: ScalePerturber}}"
    )
    with pytest.raises(UserError, match=r"source: RobertaForMaskedLM fills masks"):
        HarnessModel(recipe)
