"""Draws charts as a picture, for places that cannot show HTML: a README, a chat, a slide."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lstm_ray.report.marks import Area, Chart, Dot, Label, Line, Mark

_STYLE = Path(__file__).with_name("templates") / "style.css"
_WIDTH = 900  # in pixels of the charts
_ZOOM = 2  # pixels of the picture for one of the charts
_TOP, _BOTTOM = 58, 12  # above the charts, for their titles, and below them
_ALIGNMENT: dict[str, Literal["left", "center", "right"]] = {"start": "left", "middle": "center", "end": "right"}


def draw_charts(charts: Sequence[Chart]) -> bytes:
    """Returns charts side by side on white, each below its title, as a PNG 1800 pixels wide."""
    # Takes half a second to import, and scoring never needs it. Not pyplot, which keeps every figure in a global list
    # and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Affine2D

    colours = _light_colours()
    # matplotlib measures lines and fonts in points, 72 to the inch: here, one is a pixel of the charts.
    height = _TOP + max(chart.height for chart in charts) + _BOTTOM
    figure = Figure(figsize=(_WIDTH / 72, height / 72), dpi=72 * _ZOOM, facecolor=colours["paper"])
    FigureCanvasAgg(figure)
    column = _WIDTH / len(charts)
    for number, chart in enumerate(charts):
        left = column * number + (column - chart.width) / 2
        to_picture = Affine2D().translate(left, _TOP - height).scale(_ZOOM, -_ZOOM)
        title = Label(44, -8, chart.title, "ink", size=15, bold=True)
        for order, mark in enumerate((*chart.marks, title)):
            artist = _artist(mark, colours)
            artist.set(transform=to_picture, zorder=order)
            figure.add_artist(artist)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _light_colours() -> dict[str, str]:
    """Reads the light theme's colours, "#rrggbb" by name, from the style sheet of the pages."""
    light = _STYLE.read_text(encoding="utf-8").partition("@media")[0]
    return {**dict(re.findall(r"--(\w+): (#\w{6});", light)), "paper": "#ffffff"}


def _artist(mark: Mark, colours: Mapping[str, str]) -> Any:
    """Returns a mark as matplotlib draws it."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Circle, Polygon
    from matplotlib.text import Text

    colour = colours[mark.colour]
    if isinstance(mark, Line):
        xs, ys = zip(*mark.points, strict=True)
        style = (0, mark.dash) if mark.dash else "-"
        return Line2D(xs, ys, color=colour, linewidth=mark.width, linestyle=style, solid_capstyle="round")
    if isinstance(mark, Area):
        return Polygon(mark.points, facecolor=colour, alpha=mark.opacity, linewidth=0)
    if isinstance(mark, Dot):
        edge = {"fill": False, "edgecolor": colour, "linewidth": 2.25} if mark.ring else {"edgecolor": colours["paper"]}
        return Circle((mark.x, mark.y), mark.radius, **({"facecolor": colour, "linewidth": 1} | edge))
    return Text(
        mark.x,
        mark.y,
        mark.text,
        color=colour,
        fontsize=mark.size,
        fontweight="bold" if mark.bold else "normal",
        horizontalalignment=_ALIGNMENT[mark.anchor],
        verticalalignment="baseline",
        rotation=90 if mark.upwards else 0,
    )
