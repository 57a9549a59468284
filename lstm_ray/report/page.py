"""The pieces that report pages are made of: the page itself, headline figures, tables. Text in, HTML text out.

Everything is in the one file: no script, no font, no picture is fetched. Each function escapes the plain text that it
is given; what is called `html` has been escaped already.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfb; --ink: #1b1e24; --soft: #5d6573; --rule: #e3e5e9; --sunk: #f3f4f5;
  --training: #8b93a3; --validation: #2563d9; --best: #0d8a5f; --warn: #b45309; --warm: #d9822b; --wrong: #d1495b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14161a; --ink: #e7e9ed; --soft: #9aa2b1; --rule: #2b2f37; --sunk: #1c1f25;
    --training: #8089a0; --validation: #6ea2ff; --best: #3ecf95; --warn: #f0b35a; --warm: #d9983f; --wrong: #ef7f8e;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif;
}
main { max-width: 1080px; margin: 0 auto; padding: 48px 32px 80px; }
h1 { margin: 0 0 10px; font-size: 30px; line-height: 1.2; letter-spacing: -0.02em; font-weight: 650; }
h2 { margin: 0 0 14px; font-size: 17px; font-weight: 650; letter-spacing: -0.01em; }
h3 { margin: 0 0 4px; font-size: 14px; font-weight: 600; }
section { margin-top: 44px; }
.lead { margin: 0; max-width: 46em; font-size: 17px; color: var(--soft); }
.note { margin: -8px 0 14px; max-width: 62em; color: var(--soft); }
.figures {
  display: flex; flex-wrap: wrap; gap: 20px 52px; margin: 32px 0 0; padding: 20px 0; border: solid var(--rule);
  border-width: 1px 0;
}
.figures dt { font-size: 13px; color: var(--soft); }
.figures dd {
  margin: 0; font-size: 30px; line-height: 1.25; font-weight: 600; letter-spacing: -0.02em;
  font-variant-numeric: tabular-nums;
}
.figures small { font-size: 15px; font-weight: 400; letter-spacing: 0; color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: 32px 40px; }
.row > * { flex: var(--width) 1 calc(1px * var(--width)); min-width: 0; max-width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: 6px 12px; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
th { font-weight: 500; color: var(--soft); font-size: 13px; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; }
tr.best td { color: var(--best); font-weight: 600; }
td.key { white-space: nowrap; color: var(--soft); }
td.wide { color: var(--soft); }
td.value { overflow-wrap: anywhere; }
pre {
  margin: 0; padding: 16px 18px; overflow-x: auto; background: var(--sunk); border-radius: 8px;
  font: 12.5px/1.2 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.columns { columns: 2 400px; column-gap: 40px; }
.columns table { border-collapse: separate; border-spacing: 0; }
.columns tr { break-inside: avoid; }
.matrix { max-width: 440px; table-layout: fixed; }
.matrix thead td { width: 84px; }
.matrix th, .matrix td { border: 0; padding: 8px; text-align: center; white-space: normal; }
.matrix tbody th { text-align: right; padding-right: 12px; }
.matrix tbody td { position: relative; padding: 20px 8px; border: 3px solid var(--paper); }
.matrix tbody td::before {
  content: ""; position: absolute; inset: 0; border-radius: 6px; background: var(--validation);
  opacity: calc(0.06 + var(--share) * 0.3);
}
.matrix tbody td.wrong::before { background: var(--wrong); }
.matrix tbody td > * { position: relative; display: block; }
.matrix strong { font-size: 22px; font-weight: 600; letter-spacing: -0.01em; }
.matrix.millions strong { font-size: 15px; margin: 0 -8px; }
.matrix span { font-size: 13px; color: var(--soft); }
.example { padding: 14px 0; border-bottom: 1px solid var(--rule); display: grid; gap: 10px 24px; }
@media (min-width: 700px) { .example { grid-template-columns: 190px 1fr; } }
.example p { margin: 0; overflow-wrap: anywhere; }
.verdict { font-size: 13px; color: var(--soft); }
.verdict b { display: block; font-size: 15px; color: var(--best); font-weight: 600; }
.verdict.wrong b { color: var(--wrong); }
.meter {
  display: block; width: 150px; max-width: 100%; height: 4px; margin-top: 7px; border-radius: 2px;
  background: var(--rule);
}
.meter i { display: block; height: 4px; border-radius: 2px; background: var(--best); }
.wrong .meter i { background: var(--wrong); }
svg { display: block; width: 100%; height: auto; overflow: visible; font-variant-numeric: tabular-nums; }
svg text { font-size: 12px; fill: var(--ink); }
svg .tick, svg .axis { fill: var(--soft); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .chance { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 4; }
svg .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
svg .line.training { stroke: var(--training); }
svg .line.validation { stroke: var(--validation); }
svg .dot { stroke: var(--paper); stroke-width: 1; }
svg .dot.training { fill: var(--training); }
svg .dot.validation, svg .bubble { fill: var(--validation); }
svg .area { fill: var(--validation); opacity: 0.09; }
svg .end { font-weight: 600; }
svg .training-text { fill: var(--soft); }
svg .validation-text { fill: var(--validation); }
svg .ring { fill: none; stroke: var(--best); stroke-width: 2.25; pointer-events: all; }
svg .best-line { stroke: var(--best); stroke-width: 1; stroke-dasharray: 2 3; }
svg .best-text { fill: var(--best); font-weight: 600; }
svg .overfit { fill: var(--warm); opacity: 0.12; }
svg .overfit-text { fill: var(--warn); font-weight: 600; }
svg .figure { font-size: 20px; font-weight: 600; letter-spacing: -0.01em; }
@media print { main { padding: 0; max-width: none; } section { break-inside: avoid; } }
"""


def page(title: str, lead: str, figures: Mapping[str, tuple[str, str]], sections_html: Iterable[str]) -> str:
    """The whole document.

    Args:
        title: heading, and the browser tab's name.
        lead: the sentence under the heading.
        figures: the headline, label -> (figure, its unit or a remark in small print).
        sections_html: what `section` and `columns` made.
    """
    headline = "\n".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(figure)} <small>{escape(unit)}</small></dd></div>"
        for label, (figure, unit) in figures.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p class="lead">{escape(lead)}</p>
</header>
<dl class="figures">
{headline}
</dl>
{"".join(sections_html)}</main>
</body>
</html>
"""


def section(heading: str, *parts_html: str, note: str = "") -> str:
    """A part of the page under its own heading, with a line of explanation if there is one to give."""
    remark = f'<p class="note">{escape(note)}</p>\n' if note else ""
    return f"<section>\n<h2>{escape(heading)}</h2>\n{remark}{''.join(parts_html)}\n</section>\n"


def columns(*parts: tuple[str, int, str]) -> str:
    """Puts parts, each (label, width, HTML), side by side where their widths (pixels) fit, else below each other.

    Room to spare is shared out in proportion to the widths.
    """
    cells = "\n".join(
        f'<div style="--width: {width}">\n<h3>{escape(label)}</h3>\n{html}\n</div>' for label, width, html in parts
    )
    return f'<div class="row">\n{cells}\n</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], best: Collection[int] = ()) -> str:
    """A table of numbers: all cells to the right but the first column; the rows at the places in `best` stand out."""
    header = "".join(f"<th{_number(place)}>{escape(name)}</th>" for place, name in enumerate(head))
    body = []
    for at, row in enumerate(rows):
        cells = "".join(f"<td{_number(place)}>{escape(cell)}</td>" for place, cell in enumerate(row))
        stands_out = ' class="best"' if at in best else ""
        body.append(f"<tr{stands_out}>{cells}</tr>")
    return _scroll(f"<table>\n<thead><tr>{header}</tr></thead>\n<tbody>\n{_lines(body)}\n</tbody>\n</table>")


def explained_table(rows: Iterable[tuple[str, str, str]]) -> str:
    """A table of (name, figure, what it means)."""
    body = [
        f'<tr><td class="key">{escape(name)}</td><td class="number">{escape(figure)}</td>'
        f'<td class="wide">{escape(meaning)}</td></tr>'
        for name, figure, meaning in rows
    ]
    return _scroll(f"<table>\n<tbody>\n{_lines(body)}\n</tbody>\n</table>")


def settings_table(config: Mapping[str, object]) -> str:
    """Settings, nested ones by their dotted names, in two columns where there is room."""
    body = [
        f'<tr><td class="key">{escape(name)}</td><td class="value">{escape(str(value))}</td></tr>'
        for name, value in _flatten(config)
    ]
    return f'<div class="columns">\n<table>\n<tbody>\n{_lines(body)}\n</tbody>\n</table>\n</div>' if body else ""


def confusion_matrix(true_negatives: int, false_positives: int, false_negatives: int, true_positives: int) -> str:
    """The four counts; each cell also says, and its tint shows, its share of the rows that truly are of that label."""

    def cell(count: int, of: int, css: str) -> str:
        share = count / max(of, 1)
        return f'<td class="{css}" style="--share: {share:.3f}"><strong>{count:,}</strong><span>{share:.1%}</span></td>'

    negatives, positives = true_negatives + false_positives, false_negatives + true_positives
    css = "matrix millions" if max(negatives, positives) >= 1_000_000 else "matrix"
    return f"""<table class="{css}">
<thead><tr><td></td><th>predicted negative</th><th>predicted positive</th></tr></thead>
<tbody>
<tr><th>truly negative</th>{cell(true_negatives, negatives, "right")}{cell(false_positives, negatives, "wrong")}</tr>
<tr><th>truly positive</th>{cell(false_negatives, positives, "wrong")}{cell(true_positives, positives, "right")}</tr>
</tbody>
</table>"""


def example(text: str, verdict: str, remark: str, sureness: float, *, right: bool) -> str:
    """One text with the model's verdict beside it; the meter shows the probability of that verdict."""
    css = "verdict" if right else "verdict wrong"
    meter = f'<span class="meter"><i style="width: {100 * sureness:.1f}%"></i></span>'
    said = f'<div class="{css}"><b>{escape(verdict)}</b>{escape(remark)}{meter}</div>'
    return f'<div class="example">{said}<p>{escape(text)}</p></div>\n'


def _number(place: int) -> str:
    return ' class="number"' if place else ""


def _lines(rows: Iterable[str]) -> str:
    return "\n".join(rows)


def _scroll(table_html: str) -> str:
    return f'<div class="scroll">\n{table_html}\n</div>'


def _flatten(config: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        elif value is None or isinstance(value, bool):
            yield f"{prefix}{name}", str(value).lower()
        else:
            yield f"{prefix}{name}", value
