"""The PNG and the SVG of a chart have the same marks, in colours of one style sheet."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image

from lstm_ray.report import picture
from lstm_ray.report.marks import Area, Chart, Dot, Label, Line

STYLE = (Path(picture.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")
COLOURS = sorted(set(re.findall(r"^svg \.(\w+) \{ color:", STYLE, re.MULTILINE)))
SQUARE = [(100, 100), (200, 100), (200, 200), (100, 200)]


def drawn(*marks):
    """Draws a chart as a PNG and returns its pixels, uint8[height, width, rgb]."""
    png = picture.draw_charts([Chart("", picture._WIDTH, 300, marks)])
    return np.rint(image.imread(io.BytesIO(png))[..., :3] * 255).astype(np.uint8)


def pixel(pixels, x, y):
    """Returns the colour at a position of the chart, as "#rrggbb"."""
    return "#" + bytes(pixels[picture._ZOOM * (y + picture._TOP), picture._ZOOM * x]).hex()


@pytest.mark.parametrize("colour", COLOURS)
def test_a_mark_has_the_light_colour_of_the_style_sheet(colour):
    expected = re.search(rf"--{colour}: (#\w+);", STYLE)[1]
    pixels = drawn(Area(SQUARE, colour, 1.0))
    assert pixel(pixels, 150, 150) == expected
    assert pixel(pixels, 250, 150) == "#ffffff"


def test_every_kind_of_mark_is_drawn_where_it_says_later_ones_on_top():
    pixels = drawn(
        Area(SQUARE, "validation", 1.0),
        Line([(100, 120), (200, 120)], "warm", 4),
        Dot(150, 160, 10, "best", "hover"),
        Dot(300, 150, 10, "best", "hover", ring=True),
        Label(400, 150, "█", "warn", size=40),
        Label(500, 150, "██", "warn", "end", size=40),
    )
    assert [pixel(pixels, x, y) for x, y in ((150, 140), (150, 120), (150, 160))] == ["#2563d9", "#d9822b", "#0b7a54"]
    assert [pixel(pixels, x, 150) for x in (300, 310)] == ["#ffffff", "#0b7a54"]
    assert [pixel(pixels, x, 140) for x in (395, 410, 490, 505)] == ["#ffffff", "#b45309", "#b45309", "#ffffff"]
