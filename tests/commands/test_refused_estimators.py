"""Estimators and optimizers that do not go together: one sentence before anything is loaded."""

from pathlib import Path
from typing import Any

import pytest
from cli_recipe import changed, recipe, refusal, write

SCALES = {"model.perturber": {"class_path": "ScalePerturber"}}
SECOND = {"model.estimator": {"class_path": "SecondDifference"}}


def optimizer(name: str, **options: Any) -> dict[str, Any]:
    return {"model.optimizer": {"class_path": name, "init_args": options}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (SECOND | optimizer("ZOSGD", lr=0.1), "ZOSGD takes slopes, got estimator SecondDifference"),
        (optimizer("HiZOO", lr=0.1), "HiZOO takes slopes and curvatures, got estimator TwoPoint"),
        (optimizer("HiZOO", smooth=2.0), "smooth must be in (0, 1), got 2.0"),
        (optimizer("DiZO", clip=0.0), "clip must be in (0, 1), got 0.0"),
        (optimizer("DiZO"), "DiZO takes slopes, also of the lengths of layers, got estimator"),
        (
            SCALES | {"model.estimator": {"class_path": "PerExample"}} | optimizer("ZOSGD"),
            "ZOSGD needs an lr, got none: estimator PerExample gives slopes without a unit",
        ),
        (
            SCALES | {"model.mask": {"class_path": "SmallWeights"}},
            "mask SmallWeights compares elements that move with a bound, got perturber",
        ),
    ],
)
def test_parts_that_do_not_fit(
    changes: dict[str, Any],
    said: str,
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = {"model.perturber": {"class_path": "CodePerturber"}, "run.run_dir": "run", **changes}
    file = write(changed(recipe(tiny_llama, films_csv), parts), tmp_path / "recipe.yaml")
    sentence = refusal(capsys, "fit", "--config", file)
    assert said in sentence
    assert not (tmp_path / "run").exists()
