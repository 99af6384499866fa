"""The picture of README.md: what a step costs, and what memory it takes, beside other methods.

    python benchmarks/picture.py --to docs/cost.png

Nothing is measured here. zolit's figures are read from the tables of docs/performance.md and
docs/memory.md, which name their commands and machine. The others' memory is what the paper on QZO
says (arXiv 2505.13430; batch 1, on a GPU).
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parents[1] / "docs"

STEPS = {
    "MeZO as published": "MeZO, its own procedure",
    "MeZO dense, rademacher": "MeZO in zolit",
    "QuZO int8": "QuZO in zolit, int8",
    "QuZO int4": "QuZO in zolit, int4",
    "scales of int4": "QZO in zolit, int4",
}
"""Rows of docs/performance.md, and what the picture calls them."""

PUBLISHED = {
    "AdamW, 16 bits": (87.6, "88 to 114"),  # Figure 1, 6.7 to 8 billion weights
    "MeZO, 16 bits": (14.8, "14.8"),  # Table 1, Llama-2-7B
    "LoRA, 16 bits": (14.0, "14.0"),  # Table 5, OPT-6.7B
    "QLoRA, 4 bits": (5.6, "5.6"),  # Table 5, OPT-6.7B
    "QZO, 4 bits, its authors'": (5.0, "5.0"),  # Table 1, Llama-2-7B
}
"""GB and what is written beside the bar."""

OWN, OTHER = "#2a78d6", "#b9bec4"


def column(page: Path, row: str, head: str) -> float:
    """A figure of a page: of the first table that has both the row and the column.

    Args:
        page: in Markdown.
        row: what the first cell of its line says.
        head: what the first cell of its column says.

    Raises:
        LookupError: if there is none.
    """
    heads: list[str] = []
    for line in page.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            heads = []
        elif not heads:
            heads = cells
        elif cells[0] == row and head in heads:
            return float(cells[heads.index(head)])
    raise LookupError(f"{page.name} has no figure of {row!r} under {head!r}")


def draw(axes: Axes, title: str, bars: dict[str, tuple[float, str]]) -> None:
    """Bars from top to bottom, zolit's in colour, each with its figure."""
    colours = [OWN if "zolit" in name else OTHER for name in bars]
    lengths = [length for length, _ in bars.values()]
    drawn = axes.barh(list(bars), lengths, color=colours, height=0.62)
    axes.bar_label(drawn, [text for _, text in bars.values()], padding=4)
    axes.invert_yaxis()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlim(0, 1.25 * max(lengths))
    axes.set_xticks([])
    axes.tick_params(left=False)
    for side in axes.spines.values():
        side.set_visible(False)


def picture() -> Figure:
    """Both panels."""
    page = DOCS / "performance.md"
    costs = {name: column(page, row, "/ two bf16 forwards") for row, name in STEPS.items()}
    own = column(DOCS / "memory.md", "7B, directions on scales", "peak") / 1000
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    steps, memory = figure.subplots(1, 2)
    draw(
        steps,
        "Time of a step; two plain forwards = 1",
        {name: (cost, f"{cost:.2f}") for name, cost in costs.items()},
    )
    draw(
        memory,
        "Memory for about 7 billion weights, GB",
        {**PUBLISHED, "QZO in zolit, 4 bits": (own, f"{own:.1f}")},
    )
    return figure


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--to", type=Path, default=DOCS / "cost.png")
    arguments = parser.parse_args()
    figure = picture()
    figure.set_dpi(110)
    FigureCanvasAgg(figure).print_png(str(arguments.to))


if __name__ == "__main__":
    main()
