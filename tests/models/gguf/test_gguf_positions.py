"""Positions in GGUF files: metadata and tensors, beside transformers' own frequencies."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_cases import CASES, Case, rotary
from loads import preparation
from test_gguf_families import logits, outcome

from zolit.models.gguf.positions import llama3_factors, of_factors
from zolit.models.loading.load import load_prepared
from zolit.strategies import NoQuantizer

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16}
LATE = {"factor": 4.0, "original_max_position_embeddings": 4096}
"""Where bounds between which frequencies are stretched are not cut off at either end."""
YARN_FIELDS = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 16,
}
UNEVEN = [1.0, 1.5, 1.25, 3.0, 2.0, 6.0, 5.0, 9.0]
"""No rule gives these."""


def of(base: str, parameters: dict[str, Any], fields: dict[str, Any], **extra: Any) -> Case:
    case = CASES[base]
    options = {**case.options, "rope_parameters": parameters}
    return replace(case, options=options, fields={**case.fields, **fields}, extra=extra)


def scaled(kind: str, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = rotary(1e4, kind, **options)["rope_parameters"]
    return found


FREQUENCIES = {"rope_freqs.weight": llama3_factors(LLAMA3, 8)}
POSITIONS = {
    "linear": of(
        "llama",
        scaled("linear", factor=4.0),
        {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0},
    ),
    "linear, by its old name": of(
        "llama", scaled("linear", factor=4.0), {"rope.scale_linear": 4.0}
    ),
    "a factor alone is linear": of(
        "llama", scaled("linear", factor=4.0), {"rope.scaling.factor": 4.0}
    ),
    "none, with a factor": of(
        "llama", scaled("default"), {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}
    ),
    "yarn": of("llama", scaled("yarn", **YARN), YARN_FIELDS),
    "yarn, bounds of its own": of(
        "llama",
        scaled("yarn", **LATE, beta_fast=4.0, beta_slow=0.1),
        {
            **YARN_FIELDS,
            "rope.scaling.original_context_length": 4096,
            "rope.scaling.yarn_beta_fast": 4.0,
            "rope.scaling.yarn_beta_slow": 0.1,
        },
    ),
    "yarn, an attention factor": of(
        "llama",
        scaled("yarn", **YARN, attention_factor=1.5 * (1 + 0.1 * 1.3862943611198906)),
        {**YARN_FIELDS, "rope.scaling.attn_factor": 1.5},
    ),
    "llama3": of("llama", LLAMA3, {}, **FREQUENCIES),
    "a tensor of equal factors": of(
        "llama", scaled("linear", factor=4.0), {}, **{"rope_freqs.weight": [4.0] * 8}
    ),
    "a tensor of ones": of("llama", scaled("default"), {}, **{"rope_freqs.weight": [1.0] * 8}),
    "a tensor without a rule": of(
        "llama",
        scaled(
            "longrope",
            short_factor=UNEVEN,
            long_factor=UNEVEN,
            attention_factor=1.0,
            original_max_position_embeddings=64,
        ),
        {},
        **{"rope_freqs.weight": UNEVEN},
    ),
    "qwen2, yarn": of("qwen2", scaled("yarn", **YARN), {**YARN_FIELDS, "rope.freq_base": 1e4}),
    "qwen3, linear": of(
        "qwen3",
        scaled("linear", factor=2.0),
        {"rope.scaling.type": "linear", "rope.scaling.factor": 2.0, "rope.freq_base": 1e4},
    ),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions(name: str, tmp_path: Path) -> None:
    case = POSITIONS[name]
    model = case.model()
    source = case.write(tmp_path, model)
    got, _ = load_prepared(source, torch.float32, preparation(NoQuantizer()))
    expected = logits(model)
    torch.testing.assert_close(logits(got), expected, atol=2e-5, rtol=2e-5)
    plain = CASES[case.architecture]
    if name == "yarn, bounds of its own":
        usual = of("llama", scaled("yarn", **LATE), {})
        assert (logits(usual.model()) - expected).abs().max() > 1e-3
    if name not in ("none, with a factor", "a tensor of ones"):
        plain_model = replace(
            plain, options={**plain.options, "rope_parameters": scaled("default")}
        ).model()
        # The scaling shows, so that dropping it would be seen.
        assert (logits(plain_model) - expected).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("theta", "original", "factor", "pairs"),
    [(5e5, 8192, 8.0, 64), (5e5, 8192, 32.0, 32), (1e4, 16, 8.0, 8), (5e5, 4096, 1.5, 64)],
    ids=["Llama 3.1", "Llama 3.2", "tiny", "another factor"],
)
def test_llama3_is_found_again(theta: float, original: int, factor: float, pairs: int) -> None:
    parameters = {
        **LLAMA3,
        "rope_theta": theta,
        "factor": factor,
        "original_max_position_embeddings": original,
    }
    factors = [float(torch.tensor(one)) for one in llama3_factors(parameters, pairs)]
    assert {**of_factors(factors, theta, 131072), "rope_theta": theta} == parameters


@pytest.mark.parametrize(
    ("changes", "extra", "sentence"),
    [
        ({"rope.scaling.type": "dynamic"}, {}, "scales its positions by 'dynamic'"),
        ({"rope.scaling.type": "longrope"}, {}, "scales its positions by 'longrope'"),
        ({"rope.scaling.attn_factor": 1.2}, {}, r"attention factor 1\.2"),
        ({}, {"rope_factors_long.weight": [1.0] * 8}, "beside tensors rope_factors_long"),
        (YARN_FIELDS, FREQUENCIES, "by 'yarn' .* beside tensors rope_freqs"),
        (
            {},
            {"rope_freqs.weight": [1.0] * 7},
            "holds 7 numbers in 'rope_freqs.weight', expected 8",
        ),
        ({}, {"rope_freqs.weight": [1.0] * 7 + [0.0]}, "expected 8 above 0"),
        ({**YARN_FIELDS, "rope.scaling.yarn_attn_factor": 2.0}, {}, "yarn_attn_factor = 2.0"),
        ({**YARN_FIELDS, "rope.scaling.yarn_ext_factor": 0.5}, {}, "yarn_ext_factor = 0.5"),
        ({"rope.scaling.yarn_beta_fast": 16.0}, {}, "yarn_beta_fast = 16.0"),
        ({"rope.scaling.factor": float("nan")}, {}, "factor = nan"),
        ({"rope.dimension_count": 8}, {}, "rope.dimension_count = 8, expected 16"),
        ({"rope.scaling.alpha": 1000.0}, {}, "rope.scaling.alpha = 1000.0"),
    ],
)
def test_positions_that_are_refused(
    changes: dict[str, Any], extra: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    case = replace(CASES["llama"], extra=extra)
    found = outcome(case, tmp_path, case.model(), **changes)
    assert isinstance(found, str)
    assert re.search(sentence, found), found
