"""Reads how a GGUF file encodes positions, as rotary parameters of transformers."""

import math
from typing import Any

from zolit.models.gguf.stated import Stated

FREQUENCIES = "rope_freqs.weight"
LONG, SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
POSITION_TENSORS = (FREQUENCIES, LONG, SHORT)
"""Tensors that become numbers of the configuration, not weights."""

_CLOSE = 1e-6
_LOW, _HIGH = 1.0, 4.0
"""Llama 3's bounds. The frequencies show only their quotients with the old context."""


def rotary(stated: Stated, dims: int, head: int, context: int) -> dict[str, Any]:
    """Rotary parameters of a model whose layers all rotate alike.

    Args:
        stated: of the file.
        dims: of each head that are rotated.
        head: dimensions of a head.
        context: positions that the model was trained for.

    Raises:
        UserError: if the file scales positions in a way that transformers has no parameters for.
    """
    base = {"rope_theta": float(stated.number("rope.freq_base", 10000.0))}
    if dims != head:
        base["partial_rotary_factor"] = dims / head
    kind = stated.value("rope.scaling.type", "linear")
    factor = float(stated.number("rope.scaling.factor", 0) or stated.number("rope.scale_linear", 0))
    factor = factor or 1.0
    original = stated.count("rope.scaling.original_context_length", context)
    attention = float(stated.number("rope.scaling.attn_factor", 1.0))
    tensors = [name for name in POSITION_TENSORS if name in stated.header.tensors]
    # Older files of Phi 3 hold the tensors without naming the kind.
    if tensors == [LONG, SHORT] and (kind == "longrope" or (kind == "linear" and factor == 1)):
        return base | {
            "rope_type": "longrope",
            "short_factor": _factors(stated, SHORT, dims),
            "long_factor": _factors(stated, LONG, dims),
            "attention_factor": attention,
            "original_max_position_embeddings": original,
        }
    if kind == "yarn" and not tensors:
        return base | _yarn(stated, factor, original, attention)
    if kind not in ("none", "linear") or tensors not in ([], [FREQUENCIES]) or attention != 1:
        named = f" beside tensors {', '.join(tensors)}" if tensors else ""
        raise stated.refused(
            f"scales its positions by {kind!r} (attention factor {attention:g}){named}",
            "has positions that zolit does not compute",
        )
    stretch = 1.0 if kind == "none" else factor
    if not tensors:
        linear = {"rope_type": "linear", "factor": stretch}
        return base | ({"rope_type": "default"} if stretch == 1 else linear)
    factors = [stretch * one for one in _factors(stated, FREQUENCIES, dims)]
    return base | of_factors(factors, base["rope_theta"], context)


def of_factors(factors: list[float], theta: float, context: int) -> dict[str, Any]:
    """Parameters that divide each frequency by a factor of its own.

    Llama 3's parameters if they give these factors; else the factors themselves, as transformers
    lists them.

    Args:
        factors: one for each pair of dimensions.
        theta: base of the frequencies.
        context: positions that the model was trained for.
    """
    if max(factors) == min(factors):
        whole = {"rope_type": "linear", "factor": factors[0]}
        return {"rope_type": "default"} if factors[0] == 1 else whole
    found = _llama3(factors, theta)
    if found is not None:
        return found
    return {
        "rope_type": "longrope",
        "factor": 1.0,
        "short_factor": factors,
        "long_factor": factors,
        "attention_factor": 1.0,
        "original_max_position_embeddings": context,
    }


def llama3_factors(parameters: dict[str, Any], pairs: int) -> list[float]:
    """The number by which Llama 3's parameters divide each frequency.

    Args:
        parameters: of transformers, with ``rope_theta``.
        pairs: of dimensions that are rotated.
    """
    found = []
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    for pair in range(pairs):
        turns = (
            parameters["original_max_position_embeddings"]
            * parameters["rope_theta"] ** -(pair / pairs)
            / (2 * math.pi)
        )
        kept = min(max((turns - low) / (high - low), 0.0), 1.0)
        found.append(1 / ((1 - kept) / parameters["factor"] + kept))
    return found


def _llama3(factors: list[float], theta: float) -> dict[str, Any] | None:
    largest, pairs = max(factors), len(factors)
    between = [(n, one) for n, one in enumerate(factors) if 1 + _CLOSE < one < largest - _CLOSE]
    if not between or min(factors) < 1:
        return None
    # Between its bounds the inverse of a factor is a line in the turns that a pair makes.
    pair, one = between[len(between) // 2]
    kept = (1 / one - 1 / largest) / (1 - 1 / largest)
    turns = theta ** -(pair / pairs) / (2 * math.pi)
    found = {
        "rope_type": "llama3",
        "factor": largest,
        "low_freq_factor": _LOW,
        "high_freq_factor": _HIGH,
        "original_max_position_embeddings": round((_LOW + kept * (_HIGH - _LOW)) / turns),
    }
    made = llama3_factors(found | {"rope_theta": theta}, pairs)
    close = all(abs(a - b) <= 2 * _CLOSE * b for a, b in zip(made, factors, strict=True))
    return found if close else None


def _yarn(stated: Stated, factor: float, original: int, attention: float) -> dict[str, Any]:
    usual = yarn_attention(factor)
    stated.expect("rope.scaling.yarn_ext_factor", lambda one: one in (-1, 1), "1")
    # llama.cpp multiplies its default by this number; in transformers it replaces the default. The
    # default itself needs no option.
    stated.expect(
        "rope.scaling.yarn_attn_factor",
        lambda one: _is_near(one, usual),
        f"{usual:.6g}, which the factor of {factor:g} has by itself",
    )
    found: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": float(stated.number("rope.scaling.yarn_beta_fast", 32.0)),
        "beta_slow": float(stated.number("rope.scaling.yarn_beta_slow", 1.0)),
    }
    return found if attention == 1 else found | {"attention_factor": attention * usual}


def yarn_attention(factor: float) -> float:
    """The factor of queries and keys in YaRN, unless a model gives its own."""
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def _is_near(one: Any, other: float) -> bool:
    return isinstance(one, int | float) and abs(one - other) <= _CLOSE * abs(other)


def _factors(stated: Stated, name: str, dims: int) -> list[float]:
    try:
        found = stated.header.floats(name)
    except (OSError, ValueError) as error:
        raise stated.refused(f"cannot be read, {error}", "has no positions") from error
    if len(found) != dims // 2 or not all(one > 0 and math.isfinite(one) for one in found):
        raise stated.refused(
            f"holds {len(found)} numbers in {name!r}, expected {dims // 2} above 0",
            "is damaged",
        )
    return found
