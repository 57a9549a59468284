"""What a chart consists of: lines, areas, dots and labels, each at its position in the chart.

The pages draw a chart as SVG (`templates/chart.svg`), `picture.py` draws it as PNG. Colours are the names in
`templates/style.css`, so that the SVG follows the reader's light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

Point: TypeAlias = tuple[float, float]
"""(x, y) in pixels from the chart's upper left corner, y downwards."""


@dataclass(frozen=True)
class Line:
    """Straight lines from point to point.

    Attributes:
        points: Its points, in order.
        colour: Of the line.
        width: In pixels.
        dash: Pixels drawn and pixels left out, in turns; empty for a solid line.
    """

    kind: ClassVar[str] = "line"
    points: Sequence[Point]
    colour: str
    width: float = 1.0
    dash: tuple[float, ...] = ()


@dataclass(frozen=True)
class Area:
    """A filled polygon.

    Attributes:
        points: Its corners, in order.
        colour: Of the area.
        opacity: From 0 (invisible) to 1.
    """

    kind: ClassVar[str] = "area"
    points: Sequence[Point]
    colour: str
    opacity: float


@dataclass(frozen=True)
class Dot:
    """A circle, filled or drawn as a ring.

    Attributes:
        x, y: Its centre.
        radius: In pixels.
        colour: Of the circle.
        hover: What a browser shows when the pointer is on it.
        ring: True for an empty circle.
    """

    kind: ClassVar[str] = "dot"
    x: float
    y: float
    radius: float
    colour: str
    hover: str
    ring: bool = False


@dataclass(frozen=True)
class Label:
    """A line of text.

    Attributes:
        x, y: Where its baseline starts, has its middle or ends, depending on `anchor`.
        text: The text.
        colour: Of the text.
        anchor: Which part of the text is at x.
        size: Of the font, in pixels.
        bold: True for a heavier font.
        upwards: True for text that reads from bottom to top.
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


Mark: TypeAlias = "Line | Area | Dot | Label"


@dataclass(frozen=True)
class Chart:
    """A chart, without its heading.

    Attributes:
        title: What the chart shows.
        width, height: In pixels, at the size it was designed for.
        marks: What it consists of; later ones cover earlier ones.
    """

    title: str
    width: int
    height: int
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Frame:
    """Maps values to positions in a chart's plot area.

    Attributes:
        left, top, right, bottom: Edges of the plot area, in pixels.
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

    def horizontal(self, y: float, colour: str) -> Line:
        """Returns a thin line across the plot area at position y."""
        return Line([(self.left, y), (self.right, y)], colour)

    def vertical(self, x: float, colour: str, dash: tuple[float, ...] = ()) -> Line:
        """Returns a thin line from the top to the bottom of the plot area at position x."""
        return Line([(x, self.top), (x, self.bottom)], colour, dash=dash)
