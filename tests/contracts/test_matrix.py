"""Every combination works or is refused when the module is built; docs/methods.md says which."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser
from recipes import (
    APART,
    BITS,
    ESTIMATORS,
    MASKS,
    MATRIX,
    OF_HIZOO,
    ONE_BLOCK,
    OPTIONS,
    PERTURBERS,
    QUANTIZERS,
    RECIPES,
    Recipe,
    part,
    refusal,
)

from zolit import strategies
from zolit.strategies import Estimator, Mask, Perturber, Quantizer, QueryScheduler

DOCS = Path(__file__).resolve().parents[2] / "docs" / "methods.md"

KINDS = {
    "quantizer": (
        Quantizer,
        QUANTIZERS | OPTIONS | {"Stored": part("Stored"), "GPTQ": part("GPTQ", text="c4.txt")},
    ),
    "perturber": (Perturber, PERTURBERS),
    "mask": (
        Mask,
        MASKS
        | BITS
        | ONE_BLOCK
        | {"DominantBlock, found": part("DominantBlock", text="c4.txt")}
        | {name: part(name, file="c4.file") for name in ("Sensitive", "FromFile")},
    ),
    "estimator": (Estimator, ESTIMATORS | OF_HIZOO | APART),
    "query_scheduler": (
        QueryScheduler,
        {"two": {"class_path": "ConstantQueries", "init_args": {"n": 2}}},
    ),
}


def table() -> str:
    """The matrix as docs/methods.md holds it."""
    lines = ["| | " + " | ".join(PERTURBERS) + " |", "|---" * (len(PERTURBERS) + 1) + "|"]
    for quantizer in QUANTIZERS:
        cells = ["no" if refusal(r) else "yes" for r in MATRIX if r.quantizer == quantizer]
        lines.append(f"| {quantizer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@pytest.mark.parametrize("recipe", MATRIX, ids=str)
def test_a_refusal_names_both_parts_and_what_to_use(recipe: Recipe) -> None:
    sentence = refusal(recipe)
    if sentence is None:
        return
    assert sentence.count("\n") == 0
    for name in (recipe.quantizer, recipe.perturber):
        assert re.split(",| ", name)[0] in sentence
    assert "use " in sentence


def test_masks_and_estimators_combine_with_everything_but_two_perturbers() -> None:
    works = {(r.quantizer, r.perturber): refusal(r) is None for r in MATRIX}
    for recipe in RECIPES:
        wanted = works[recipe.quantizer, recipe.perturber]
        if wanted and recipe.mask == "RandomMask" and "LowRank" in recipe.perturber:
            sentence = refusal(recipe)
            assert sentence is not None
            assert "RandomMask" in sentence
            assert "use NoMask" in sentence
        elif recipe.mask != "RandomMask" and recipe.perturber == "SparsePerturber":
            assert refusal(recipe) is not None
        else:
            assert (refusal(recipe) is None) == wanted, recipe
    assert sum(works.values()) == 94


@pytest.mark.parametrize("mask", BITS)
def test_masks_of_bits_combine_with_all_but_low_rank(mask: str) -> None:
    for pair in MATRIX:
        sentence = refusal(Recipe(pair.quantizer, pair.perturber, mask))
        if refusal(pair) is None and "LowRank" in pair.perturber:
            assert f"mask {mask} leaves single coordinates out" in str(sentence)
        elif (
            refusal(pair) is None
            and mask == "SmallWeights"
            and pair.perturber.startswith(("Scale", "Sparse"))
        ):
            assert f"mask {mask} compares elements that move with a bound" in str(sentence)
        else:
            assert sentence == refusal(pair)


@pytest.mark.parametrize("mask", ONE_BLOCK)
def test_masks_of_a_block_combine_with_all_but_overlays(mask: str) -> None:
    for pair in MATRIX:
        sentence = refusal(Recipe(pair.quantizer, pair.perturber, mask))
        if refusal(pair) is None and pair.perturber == "SparsePerturber":
            assert f"got mask {mask}" in str(sentence)
        else:
            assert sentence == refusal(pair)


def test_the_documented_matrix_is_the_real_one() -> None:
    assert table() in DOCS.read_text(encoding="utf-8"), f"docs/methods.md must hold:\n{table()}"


ELSEWHERE = {"GPTQ", "Stored", ("SqueezeLLM", "saliency")}
"""What needs a text, a checkpoint or a file of scores; see tests/strategies and tests/models."""


def test_every_choice_of_a_quantizer_is_in_the_sweep() -> None:
    """A flag, a word or what may be left out has code of its own: some entry takes it."""
    entries = [*QUANTIZERS.values(), *OPTIONS.values()]
    parts = [one for one in vars(strategies).values() if isinstance(one, type)]
    quantizers = {one for one in parts if issubclass(one, Quantizer) and one is not Quantizer}
    missing: set[Any] = set()
    for quantizer in quantizers:
        given = [e["init_args"] for e in entries if e["class_path"] == quantizer.__name__]
        if not given:
            missing.add(quantizer.__name__)
            continue
        for name, option in inspect.signature(quantizer).parameters.items():
            if isinstance(option.default, bool | str | None) and not any(
                one.get(name, option.default) != option.default for one in given
            ):
                missing.add((quantizer.__name__, name))
    assert missing == ELSEWHERE


PARTS = [(kind, name) for kind, (_, parts) in KINDS.items() for name in parts]


@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_yaml_round_trip(kind: str, name: str) -> None:
    base, parts = KINDS[kind]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=base)
    first = parser.parse_object({"part": parts[name]})
    text = parser.dump(first, skip_none=False)  # as Lightning saves a run's config
    again = parser.parse_string(text)
    assert parser.dump(again, skip_none=False) == text
    assert (
        yaml.safe_load(text)["part"].get("init_args", {}).items()
        >= parts[name]["init_args"].items()
    )

    def attributes(config: Any) -> dict[str, Any]:
        made = parser.instantiate_classes(config).part
        assert type(made).__name__ == parts[name]["class_path"]
        return vars(made)

    assert attributes(first) == attributes(again)
