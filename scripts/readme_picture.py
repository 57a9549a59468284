"""Draws docs/picture-light.svg and docs/picture-dark.svg, the README's picture: `python scripts/readme_picture.py`.

The figures are read from "Whole scoring command" in benchmarks/RESULTS.md, and from the two tables of "Results" in
docs/explanation/accuracy.md. A test checks that the files are up to date (tests/unit/docs/test_reference.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "docs"
_THEMES = {
    "light": {"text": "#1f2328", "dim": "#59636e", "ours": "#0969da", "other": "#afb8c1"},
    "dark": {"text": "#f0f6fc", "dim": "#9198a1", "ours": "#4493f8", "other": "#545d68"},
}
_WIDTH, _ROW, _TOP, _BAR = 880, 26, 56, 170
_LABEL = 205  # width of the labels, to the left of the bars

_PLOT = (60, 340, 248, 344)  # left, right, top and bottom of the plot
_MODELS = {"nb": "NB, linear", "tfidf": "TF-IDF, linear", "best": "lstm-ray, best"}

Bar = tuple[str, float, str, bool]  # label, value, value as text, ours


def pictures() -> dict[str, str]:
    """Returns the pictures by file name."""
    return {f"picture-{theme}.svg": _draw(**colours) for theme, colours in _THEMES.items()}


def _scoring() -> Iterator[Bar]:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
    section = text.split("## Whole scoring command")[1]
    for pattern, label, ours in (
        (r"`lstm-ray score --actors 0`", "lstm-ray score, one process", True),
        (r"`lstm-ray score --actors 2`", "lstm-ray score, two Ray actors", True),
        (r"Ray Data's guide[^|]*", "Ray Data's guide", False),
        (r"the guide with Ray's own checkpoint[^|]*", "the same with checkpoint", False),
    ):
        found = re.search(rf"^\| {pattern} *\| ([\d,]+) \|", section, re.MULTILINE)
        assert found, pattern
        yield label, float(found[1].replace(",", "")), found[1], ours


def _accuracy() -> Iterator[Bar]:
    text = (ROOT / "docs" / "explanation" / "accuracy.md").read_text(encoding="utf-8")
    section = text.split("## Results")[1].split("\n## ")[0]
    rows = re.findall(r"^\| ([^|]+) \|(?: [^|]+ \|){3} ([\d.]+)[^|]*\| (-?[\d.]+) \|$", section, re.MULTILINE)
    assert rows
    for corpus, accuracy, ahead in rows:
        label = re.sub(r"all \(([\d,]+)\)", r"\1", corpus).replace("_", " ") + " rows"
        yield label, max(0.0, float(ahead)), f"{float(ahead):+.1f}   ({float(accuracy):.3f})", True


def _speeds() -> Iterator[tuple[str, float, float, bool]]:
    """Yields label, reviews per second, accuracy, and whether it is ours; IMDb has as many rows of either class."""
    text = (ROOT / "docs" / "explanation" / "accuracy.md").read_text(encoding="utf-8")
    rows = text.split("| IMDb, all | `tfidf` |")[1].split("\n\n")[0]
    for model, accuracy, speed in re.findall(
        r"`(\w+)` \| ([\d.]+)[^|]* \| [^|]+ \| [^|]+ \| ([\d,]+) ", "`tfidf` |" + rows
    ):
        yield _MODELS[model], float(speed.replace(",", "")), float(accuracy), model == "best"


def _draw(text: str, dim: str, ours: str, other: str) -> str:
    panels = (
        ("Reviews scored per second", "200,000 reviews, Parquet to Parquet, start-up included", list(_scoring())),
        (
            "Points of accuracy ahead of linear models",
            "--preset best against the better of two; (its accuracy)",
            list(_accuracy()),
        ),
    )
    height = _TOP + _ROW * max(len(bars) for _, _, bars in panels) + 8
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        ' font-family="sans-serif" font-size="13">'
    ]
    for number, (title, below, bars) in enumerate(panels):
        left = number * _WIDTH // 2
        lines += [
            f'<text x="{left}" y="18" font-size="15" font-weight="bold" fill="{text}">{escape(title)}</text>',
            f'<text x="{left}" y="37" fill="{dim}">{escape(below)}</text>',
            *_bars(bars, left, text, ours, other),
        ]
    lines += _plot(text, dim, ours, other)
    return "\n".join([*lines, "</svg>", ""])


def _plot(text: str, dim: str, ours: str, other: str) -> Iterator[str]:
    """Yields accuracy by speed, below the left panel."""
    left, right, top, bottom = _PLOT
    speeds = list(_speeds())
    lowest, highest = (edge(accuracy for _, _, accuracy, _ in speeds) for edge in (min, max))
    fastest = max(speed for _, speed, _, _ in speeds)
    yield f'<text x="0" y="{top - 50}" font-size="15" font-weight="bold" fill="{text}">Accuracy by speed, IMDb</text>'
    yield f'<text x="0" y="{top - 31}" fill="{dim}">25,000 training rows; reviews/s of one core, texts in memory</text>'
    yield f'<path d="M{left} {top - 10}V{bottom}H{right}" fill="none" stroke="{other}"/>'
    for label, speed, accuracy, is_ours in speeds:
        x = left + round(speed / fastest * (right - left - 120))
        y = bottom - 16 - round((accuracy - lowest) / (highest - lowest) * (bottom - top - 24))
        yield f'<line x1="{left - 4}" y1="{y}" x2="{left}" y2="{y}" stroke="{other}"/>'
        yield f'<text x="{left - 8}" y="{y + 4}" text-anchor="end" fill="{dim}">{accuracy:.3f}</text>'
        yield f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 4}" stroke="{other}"/>'
        yield f'<circle cx="{x}" cy="{y}" r="6" fill="{ours if is_ours else other}"/>'
        yield f'<text x="{x + 11}" y="{y + 4}" fill="{text}">{escape(label)}: {speed:,.0f}/s</text>'


def _bars(bars: Sequence[Bar], left: int, text: str, ours: str, other: str) -> Iterator[str]:
    most = max(value for _, value, _, _ in bars)
    for row, (label, value, shown, is_ours) in enumerate(bars):
        y, width = _TOP + row * _ROW, round(value / most * (_BAR - 30))
        end = left + _LABEL + width
        yield f'<text x="{left + _LABEL - 8}" y="{y + 13}" text-anchor="end" fill="{text}">{escape(label)}</text>'
        yield f'<rect x="{left + _LABEL}" y="{y}" width="{width}" height="17" fill="{ours if is_ours else other}"/>'
        yield f'<text x="{end + 6}" y="{y + 13}" fill="{text}">{escape(shown)}</text>'


if __name__ == "__main__":
    for name, picture in pictures().items():
        (DIRECTORY / name).write_text(picture, encoding="utf-8")
