"""Renders the templates in `templates/` as pages of one file that loads nothing else, and figures as text."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import jinja2

from lstm_ray.report.curves import is_number
from lstm_ray.report.marks import Point
from lstm_ray.wording import shown_path, visible

Figure: TypeAlias = tuple[str, str, str]
"""A headline figure: name, figure, unit."""


def render(template: str, **values: Any) -> str:
    """Returns a page: a template with its values."""
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lstm_ray.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: (
            visible(value) if type(value) is str else value
        ),  # markup was rendered from escaped texts
    )
    environment.filters["coordinates"] = _coordinates
    return environment


def _coordinates(points: Sequence[Point]) -> str:
    """Returns points in the format of SVG's polylines and polygons."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def figure(value: float | None, form: str) -> str:
    """Returns a number in a Python format, or a dash if it is missing or not finite."""
    return format(value, form) if is_number(value) else "—"


def duration(seconds: float) -> tuple[str, str]:
    """Returns a duration as (figure, unit), in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.1f}", "s"
    if seconds < 5400:
        return f"{seconds / 60:.1f}", "min"
    return f"{seconds / 3600:.1f}", "h"


def flatten(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields names and values of settings; nested ones have dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            yield f"{prefix}{name}", ", ".join(shown_path(str(one)) for one in value)
        elif value is None or isinstance(value, bool):
            yield f"{prefix}{name}", str(value).lower()
        else:
            yield f"{prefix}{name}", str(value)
