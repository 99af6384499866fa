"""docs/models.md from the results of `benchmarks/every_type.py`.

python benchmarks/every_type_page.py .cache/every_type.json docs/models.md
"""

import json
import sys
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
)

HEAD = """# Models: every causal and masked type of transformers

`python benchmarks/every_type.py --json FILE` builds a tiny random model of each type that
transformers {version} knows, loads it with zolit, and compares with an independent computation:

- **loaded**: logits as loaded equal those of transformers' own `from_pretrained`;
- **int8, int4**: logits of the stored weights equal those of transformers' model with the floats
  that the codes stand for;
- **pairs**: the losses of both signs in one pass equal two passes ("two passes": zolit found that
  pairs would not, and makes none);
- **prefix**: losses with the blocks below the tuned ones run once equal those of plain passes;
- **rows**: a row's score does not depend on the other rows of its batch ("one length": zolit
  found that padding would change it, and runs rows with those of their own length; "one row": one
  by one);
- **unread**: every weight that `tune: linear` moves changes the logits.

"right" means that all of this holds. A type that zolit refuses stands with its sentence. "not
built" are types whose tiny configuration transformers or this script cannot build; where zolit was
shown their configuration and refused it, its sentence stands. What differs is said as it is.

Two shares of the parameters of the tiny model: what `tune: [linear]` moves, and what `Int8` stores
as codes (`Int4` and `Float8` store the same layers, where a group size divides their inputs). The
rest are embeddings, the output layer, norms, biases, convolutions and what no forward on text
reads. Real models have a larger share in linear layers, as their embeddings are a smaller part.

| type | kind | result | tuned | int8 |
|---|---|---|---|---|
"""
CHECKS = ("loaded", "decoded", "int4", "pairs", "prefix", "rows", "unread")
FINE = ("equal", "narrow", "no blocks", "no linear weight in the last block")
WORDS = {
    "off": "two passes",
    "off, equal": "two passes of floats",
    "equal, off": "two passes of int8",
}


def page(rows: list[dict[str, Any]]) -> str:
    """The page as Markdown.

    Args:
        rows: of `type_checks.examine`.
    """
    lines = []
    for row in sorted(rows, key=lambda row: (row["kind"], row["type"])):
        shares = row.get("shares")
        numbers = (
            [f"{shares[name]:.0%}" for name in ("tuned", "int8")]
            if isinstance(shares, dict)
            else ["", ""]
        )
        lines.append(f"| {row['type']} | {row['kind']} | {result(row)} | {' | '.join(numbers)} |")
    right = sum("right" in line.split("|")[3] for line in lines)
    built = [row for row in rows if row["built"] == "yes"]
    left = len(CAUSAL) + len(MASKED) - len(rows)
    rest = f" {left} types have not been walked yet." if left else ""
    count = (
        f"\n{len(rows)} types, {len(built)} built, {right} right, "
        f"{sum(result(row).startswith('refused') for row in rows)} refused.{rest}\n"
    )
    return HEAD.format(version=transformers.__version__) + "\n".join(lines) + "\n" + count


def result(row: dict[str, Any]) -> str:
    """What a row of the table says of a type."""
    if row["built"] != "yes":
        asked = row.get("asked", "")
        return _cell(asked if asked.startswith("refused") else row["built"])
    found = {name: str(row[name]) for name in CHECKS if name in row}
    sentences = [value for value in found.values() if value.startswith("refused")]
    if found.get("loaded", "").startswith("refused"):
        return _cell(found["loaded"])
    wrong = [f"{n}: {v.removeprefix('FAILED: ')}" for n, v in found.items() if "FAILED" in v]
    if wrong:
        return _cell("differs: " + "; ".join(wrong))
    notes = [WORDS.get(v, v) for v in found.values() if v not in FINE and v not in sentences]
    notes += sentences
    return _cell("; ".join(["right", *dict.fromkeys(notes)]))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


if __name__ == "__main__":
    *sources, target = map(Path, sys.argv[1:])
    found = [row for source in sources for row in json.loads(source.read_text(encoding="utf-8"))]
    last = {(row["type"], row["kind"]): row for row in found}
    target.write_text(page(list(last.values())), encoding="utf-8")
