"""Every causal and masked type of transformers with a tiny configuration: is zolit right?

    python benchmarks/every_type.py --only bloom,longformer
    nice -n 10 python benchmarks/every_type.py --json .cache/every_type.json

Each line is a type that is not equal throughout; the JSON file has all of them.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "models"))

from type_checks import CHECKS, examine  # noqa: E402
from type_configs import keys  # noqa: E402
from type_walk import walk  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="types, with commas between")
    parser.add_argument("--kind", choices=["causal", "masked"], help="one kind alone")
    parser.add_argument("--checks", default="", help=f"of {', '.join(CHECKS)}, blocks, saliency")
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    kinds = [options.kind] if options.kind else ["causal", "masked"]
    cases = [(one, kind) for kind in kinds for one in keys(kind)]
    if options.only:
        cases = [case for case in cases if case[0] in options.only.split(",")]
    chosen = options.checks.split(",") if options.checks else None
    rows = []
    examine("llama", "causal")  # imports what each process would
    for row in walk(cases, examine, chosen=chosen):
        rows.append(row)
        print(row["kind"], row["type"], _summary(row), flush=True)
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))


def _summary(row: dict[str, object]) -> str:
    if row["built"] != "yes":
        return str(row["built"])
    wrong = {
        name: value
        for name, value in row.items()
        if name not in ("type", "kind", "built") and value != "equal"
    }
    return "; ".join(f"{name}: {value}" for name, value in wrong.items()) or "equal"


if __name__ == "__main__":
    main()
