"""Charts as inline SVG: text in, text out, no library.

Colours are CSS classes (`page.py` defines them, for light and for dark), so a chart follows the reader's theme. Every
point carries a `<title>`, which browsers show on hover without any script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from lstm_ray.evaluate.counts import BinaryCounts, FloatArray
from lstm_ray.report.curves import Curves, Values, is_number

_LABEL_GAP = 15.0  # between the baselines of two labels, so that they never touch
_MOST_DOTS = 40  # epochs; beyond, dots would merge into a thick line
_ROC_POINTS = 300  # more cannot be told apart at this size


@dataclass(frozen=True)
class Frame:
    """Maps values to places in a plot area, all in SVG units (pixels at the drawn size).

    Attributes:
        left, top, right, bottom: edges of the plot area.
        x_range, y_range: the values at the edges, lower and upper.
    """

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        """The horizontal place of a value."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        """The vertical place of a value; larger values are higher up."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)


def loss_chart(curves: Curves) -> str:
    """Training and validation loss by epoch."""
    return _epoch_chart("Loss", curves, curves.training_loss, curves.validation_loss, percent=False)


def accuracy_chart(curves: Curves) -> str:
    """Training and validation accuracy by epoch."""
    return _epoch_chart("Accuracy", curves, curves.training_accuracy, curves.validation_accuracy, percent=True)


def roc_chart(counts: BinaryCounts) -> str:
    """The ROC curve, its area, and the point on it where the threshold puts the model."""
    frame = _square_frame()
    parts = [*_square_axes(frame, "negatives called positive", "positives found")]
    false_rate, true_rate = _thin(*counts.roc_curve())
    if false_rate.size:
        line = _path(frame, false_rate.tolist(), true_rate.tolist())
        parts.append(f'<path class="area" d="{line} L{frame.right:.1f} {frame.bottom:.1f} Z"/>')
        parts.append(f'<path class="line validation" d="{line}"/>')
        at_x, at_y = counts.false_positives / counts.negatives, counts.true_positives / counts.positives
        place = (
            f"threshold {counts.threshold:g}: {at_y:.1%} of positives found, {at_x:.1%} of negatives called positive"
        )
        parts.append(_ring(frame.x(at_x), frame.y(at_y), place))
        parts.append(_text(frame.x(at_x) + 12, frame.y(at_y) + 17, f"threshold {counts.threshold:g}", "best-text"))
        auc = counts.metrics()["auc"]
        parts.append(_text(frame.x(0.95), frame.y(0.1), f"AUC {auc:.3f}", "figure", "end"))
    else:
        parts.append(_text(frame.x(0.5), frame.y(0.5), "needs both labels", "tick", "middle"))
    return _svg("ROC curve", 340, 330, parts)


def reliability_chart(counts: BinaryCounts) -> str:
    """Predicted probability against the share that is positive; a dot's area is its bin's share of the rows."""
    frame = _square_frame()
    parts = [*_square_axes(frame, "predicted probability", "share that is positive")]
    bins = counts.reliability()
    if bins.rows.size:
        line = _path(frame, bins.mean_probability.tolist(), bins.positive_share.tolist())
        parts.append(f'<path class="line validation" d="{line}"/>')
        most = int(bins.rows.max())
        for rows, said, true in zip(*(column.tolist() for column in bins), strict=True):
            hover = f"{rows:,} rows: predicted {said:.1%}, positive {true:.1%}"
            parts.append(_dot(frame.x(said), frame.y(true), 2.5 + 7.5 * math.sqrt(rows / most), "bubble", hover))
    else:
        parts.append(_text(frame.x(0.5), frame.y(0.5), "no rows", "tick", "middle"))
    return _svg("Reliability diagram", 340, 330, parts)


def value_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that cover [low, high]: at most about `most`, the first <= low, the last >= high."""
    if low == high:
        margin = 0.1 * abs(low) or 1.0
        low, high = low - margin, high + margin
    rough = (high - low) / (most - 1)
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(count * step, 12) for count in range(first, max(last, first + 1) + 1)]


def epoch_ticks(epochs: Sequence[int], most: int = 16) -> list[int]:
    """Epochs to number on the axis: all of them if few, else every 2nd, 5th, 10th ... counted from 0."""
    span = epochs[-1] - epochs[0] + 1
    if span <= most:
        return list(range(epochs[0], epochs[-1] + 1))
    step = next(
        factor * 10**power for power in range(9) for factor in (2, 5, 10) if span / (factor * 10**power) <= most
    )
    return [epoch for epoch in range(epochs[0], epochs[-1] + 1) if epoch % step == 0]


def keep_apart(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Moves two labels, in rising order, evenly apart until `gap` is between them, both within [low, high].

    One label, or none, stays where it is.
    """
    if len(places) < 2 or places[1] - places[0] >= gap:
        return list(places)
    middle = min(max((places[0] + places[1]) / 2, low + gap / 2), high - gap / 2)
    return [middle - gap / 2, middle + gap / 2]


def _epoch_chart(title: str, curves: Curves, training: Values, validation: Values, *, percent: bool) -> str:
    """One panel: both curves labelled at their ends, the best epoch ringed, the overfit epochs shaded."""
    finite = [value for value in (*training, *validation) if value is not None and math.isfinite(value)]
    if not finite:
        return _svg(title, 500, 300, [_text(250, 150, "no finite values", "tick", "middle")])
    ticks = value_ticks(min(finite), max(finite))
    edge = 0.5 if len(curves.epochs) == 1 else 0.0
    x_range = (curves.epochs[0] - edge, curves.epochs[-1] + edge)
    frame = Frame(44, 26, 376, 246, x_range, (ticks[0], ticks[-1]))
    parts = [*_overfit_band(frame, curves), *_epoch_axes(frame, curves, ticks, percent=percent)]
    ends: list[tuple[float, str, str]] = []
    for name, values in (("training", training), ("validation", validation)):
        parts += _curve(frame, name, curves.epochs, values, percent=percent)
        measured = [value for value in values if value is not None and math.isfinite(value)]
        if measured:
            ends.append((frame.y(measured[-1]), name, _value(measured[-1], percent=percent)))
    parts += _best_marker(frame, curves, curves.at_best(validation), percent=percent)
    ends.sort()
    places = keep_apart([y for y, _, _ in ends], _LABEL_GAP, frame.top, frame.bottom)
    for y, (_, name, value) in zip(places, ends, strict=True):
        parts.append(_text(frame.right + 10, y + 4, f"{name} {value}", f"end {name}-text"))
    return _svg(f"{title} by epoch", 500, 290, parts)


def _overfit_band(frame: Frame, curves: Curves) -> Iterator[str]:
    if curves.overfit_from is None:
        return
    # Halfway back to the epoch before, so that the band begins where the curve turns, and shows for one epoch too.
    start = frame.x(curves.overfit_from - 0.5)
    width = frame.right - start
    place = f'x="{start:.1f}" y="{frame.top}" width="{width:.1f}" height="{frame.bottom - frame.top}"'
    yield f'<rect class="overfit" {place}/>'
    label = f"overfits from epoch {curves.overfit_from}"
    if width > 130:
        yield _text(start, frame.top - 9, label, "overfit-text")
    else:
        yield _text(frame.right, frame.top - 9, label, "overfit-text", "end")


def _best_marker(frame: Frame, curves: Curves, value: float | None, *, percent: bool) -> Iterator[str]:
    if curves.best_epoch is None:
        return
    x = frame.x(curves.best_epoch)
    yield f'<line class="best-line" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.bottom}"/>'
    yield _text(x, frame.bottom + 35, "▲ best", "best-text", "middle")
    if value is not None and math.isfinite(value):
        yield _ring(x, frame.y(value), f"best: epoch {curves.best_epoch}, {_value(value, percent=percent)}")


def _epoch_axes(frame: Frame, curves: Curves, ticks: Sequence[float], *, percent: bool) -> Iterator[str]:
    for tick in ticks:
        y = frame.y(tick)
        yield f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield _text(frame.left - 8, y + 4, f"{tick:.6g}" if not percent else f"{100 * tick:.6g}%", "tick", "end")
    for epoch in epoch_ticks(curves.epochs):
        yield _text(frame.x(epoch), frame.bottom + 18, str(epoch), "tick", "middle")


def _curve(frame: Frame, name: str, epochs: Sequence[int], values: Values, *, percent: bool) -> Iterator[str]:
    """The line, broken where a value is missing, and a dot for each epoch while there are few."""
    xs: list[float] = []
    ys: list[float] = []
    for epoch, value in [*zip(epochs, values, strict=True), (0, None)]:
        if value is not None and math.isfinite(value):
            xs.append(epoch)
            ys.append(value)
        elif xs:
            yield f'<path class="line {name}" d="{_path(frame, xs, ys)}"/>'
            xs, ys = [], []
    if len(epochs) > _MOST_DOTS:
        return
    for epoch, value in zip(epochs, values, strict=True):
        if value is not None and is_number(value):
            hover = f"epoch {epoch}, {name} {_value(value, percent=percent)}"
            yield _dot(frame.x(epoch), frame.y(value), 3, name, hover)


def _square_frame() -> Frame:
    return Frame(50, 12, 330, 284, (0.0, 1.0), (0.0, 1.0))


def _square_axes(frame: Frame, x_title: str, y_title: str) -> Iterator[str]:
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = frame.x(tick), frame.y(tick)
        yield f'<line class="grid" x1="{frame.left}" x2="{frame.right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.top}" y2="{frame.bottom}"/>'
        yield _text(x, frame.bottom + 16, f"{tick:.0%}", "tick", "middle")
        yield _text(frame.left - 6, y + 4, f"{tick:.0%}", "tick", "end")
    yield f'<line class="chance" x1="{frame.left}" y1="{frame.bottom}" x2="{frame.right}" y2="{frame.top}"/>'
    yield _text((frame.left + frame.right) / 2, frame.bottom + 36, x_title, "axis", "middle")
    middle = (frame.top + frame.bottom) / 2
    yield f'<g transform="translate(10 {middle:.1f}) rotate(-90)">{_text(0, 0, y_title, "axis", "middle")}</g>'


def _thin(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Keeps the points that can be told apart: the first in each step along the curve, and the last of all."""
    if x.size <= _ROC_POINTS:
        return x, y
    steps = ((x + y) / 2 * _ROC_POINTS).astype(np.int64)
    kept = np.union1d(np.unique(steps, return_index=True)[1], [x.size - 1])
    return x[kept], y[kept]


def _path(frame: Frame, xs: Sequence[float], ys: Sequence[float]) -> str:
    return "M" + " L".join(f"{frame.x(x):.1f} {frame.y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def _value(value: float, *, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.3f}"


def _text(x: float, y: float, text: str, css: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def _dot(x: float, y: float, radius: float, css: str, hover: str) -> str:
    return (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="dot {css}"><title>{escape(hover)}</title></circle>'
    )


def _ring(x: float, y: float, hover: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" class="ring"><title>{escape(hover)}</title></circle>'


def _svg(label: str, width: int, height: int, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">\n'
        + "\n".join(parts)
        + "\n</svg>"
    )
