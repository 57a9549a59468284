"""The parts of a chart: lines, areas, dots and labels.

A template renders a chart as SVG (`templates/chart.svg`), `picture.py` as PNG. Positions and sizes are pixels from the
chart's upper left corner, y downwards. Colours are names in `templates/style.css`, so that the SVG follows the reader's
light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """Straight lines from point to point; `dash` is the lengths of dashes and gaps, alternating."""

    kind: ClassVar[str] = "line"
    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Area:
    """A filled polygon; browsers show `hover`, if there is one, while the pointer is on it."""

    kind: ClassVar[str] = "area"
    points: Sequence[Point]
    colour: str
    opacity: float
    hover: str = ""


@dataclass(frozen=True)
class Dot:
    """A circle, filled or a ring; browsers show `hover` while the pointer is on it."""

    kind: ClassVar[str] = "dot"
    x: float
    y: float
    radius: float
    colour: str
    hover: str
    ring: bool = False


@dataclass(frozen=True)
class Label:
    """A line of text; (x, y) is the start, middle or end of its baseline (`anchor`).

    `upwards` text reads from bottom to top.
    """

    kind: ClassVar[str] = "label"
    x: float
    y: float
    text: str
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"
    size: float = 12.0
    bold: bool = False
    upwards: bool = False


Mark: TypeAlias = Line | Area | Dot | Label


@dataclass(frozen=True)
class Chart:
    """A title, and marks in drawing order: later ones cover earlier ones."""

    title: str
    width: int
    height: int
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Frame:
    """Maps values to positions in a chart's plot area.

    Attributes:
        left, top, right, bottom: Edges of the plot area.
        x_range, y_range: The values at the edges, lower and upper.
    """

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """Returns the horizontal position of a value."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Returns the vertical position of a value; larger values are higher up."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> list[Point]:
        """Returns the positions of pairs of values."""
        return [(self.x(x), self.y(y)) for x, y in zip(xs, ys, strict=True)]

    def horizontal(self, y: float) -> Line:
        """Returns a thin line across the plot area at position y."""
        return Line([(self.left, y), (self.right, y)], "rule")

    def vertical(self, x: float, colour: str, dash: tuple[float, ...] = ()) -> Line:
        """Returns a thin line from the top to the bottom of the plot area at position x."""
        return Line([(x, self.top), (x, self.bottom)], colour, dash=dash)
