"""The training curves as a PNG, for where HTML cannot go: a README, a chat, a slide."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

from lstm_ray.report.charts import epoch_ticks, keep_apart, value_ticks
from lstm_ray.report.curves import Curves, Values, read_curves

if TYPE_CHECKING:
    import pyarrow as pa

_INK, _SOFT, _RULE = "#1b1e24", "#5d6573", "#e3e5e9"
_TRAINING, _VALIDATION, _BEST, _OVERFIT, _OVERFIT_TEXT = "#8b93a3", "#2563d9", "#0d8a5f", "#d9822b", "#b45309"
_MOST_DOTS = 40  # epochs


def history_png(history: pa.Table) -> bytes:
    """Returns loss and accuracy by epoch, side by side, as a PNG of 1800 x 720 pixels.

    Args:
        history: one row an epoch; columns epoch, loss, accuracy, and where they are known validation_loss,
            validation_accuracy (float64) and best (bool).
    """
    # Half a second to import, and of no use to whoever only scores. The object interface, because pyplot keeps every
    # figure in a global list and looks for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = read_curves(history)
    figure = Figure(figsize=(10, 4), dpi=180, facecolor="white")
    FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.05, right=0.865, top=0.81, bottom=0.15, wspace=0.56)
    _draw_panel(loss, "Loss by epoch", curves, curves.training_loss, curves.validation_loss, percent=False)
    _draw_panel(
        accuracy, "Accuracy by epoch", curves, curves.training_accuracy, curves.validation_accuracy, percent=True
    )
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()


def _draw_panel(axes: Any, title: str, curves: Curves, training: Values, validation: Values, *, percent: bool) -> None:
    """One panel: both curves named at their ends, the best epoch ringed, the overfit epochs shaded."""
    axes.set_title(title, loc="left", fontsize=12.5, fontweight="bold", color=_INK, pad=24)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelsize=8.5, labelcolor=_SOFT)
    finite = [value for value in (*training, *validation) if value is not None and math.isfinite(value)]
    if not finite:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no finite values", transform=axes.transAxes, ha="center", color=_SOFT, fontsize=9)
        return
    ticks = value_ticks(min(finite), max(finite))
    edge = 0.5 if len(curves.epochs) == 1 else 0.0
    axes.set_xlim(curves.epochs[0] - edge, curves.epochs[-1] + edge)
    axes.set_ylim(ticks[0], ticks[-1])
    axes.set_yticks(ticks, [f"{100 * tick:.6g}%" if percent else f"{tick:.6g}" for tick in ticks])
    axes.set_xticks(epoch_ticks(curves.epochs))
    _mark_overfitting(axes, curves)
    _draw_curves(axes, curves, training, validation, percent=percent)
    _mark_best(axes, curves, curves.at_best(validation))


def _draw_curves(axes: Any, curves: Curves, training: Values, validation: Values, *, percent: bool) -> None:
    ends = []
    for name, values, colour in (("training", training, _TRAINING), ("validation", validation, _VALIDATION)):
        heights = [math.nan if value is None or not math.isfinite(value) else value for value in values]
        marker = "o" if len(heights) <= _MOST_DOTS else None
        axes.plot(
            curves.epochs, heights, color=colour, linewidth=2, marker=marker, markersize=4, clip_on=False, zorder=3
        )
        measured = [height for height in heights if not math.isnan(height)]
        if measured:
            last = f"{measured[-1]:.1%}" if percent else f"{measured[-1]:.3f}"
            ends.append((measured[-1], f"{name} {last}", _SOFT if name == "training" else colour))
    ends.sort()
    low, high = axes.get_ylim()
    places = keep_apart([end[0] for end in ends], 0.07 * (high - low), low, high)
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.text(
            1.03,
            place,
            text,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=8.5,
            weight="bold",
            color=colour,
        )


def _mark_overfitting(axes: Any, curves: Curves) -> None:
    if curves.overfit_from is None:
        return
    start, end = curves.overfit_from - 0.5, curves.epochs[-1]
    axes.axvspan(start, end, color=_OVERFIT, alpha=0.12, linewidth=0)
    wide = end - start > 0.45 * (end - curves.epochs[0])
    axes.annotate(
        f"overfits from epoch {curves.overfit_from}", (start if wide else end, 1), (0, 5),
        xycoords=axes.get_xaxis_transform(), textcoords="offset points", ha="left" if wide else "right",
        fontsize=8.5, weight="bold", color=_OVERFIT_TEXT,
    )  # fmt: skip


def _mark_best(axes: Any, curves: Curves, value: float | None) -> None:
    if curves.best_epoch is None:
        return
    axes.axvline(curves.best_epoch, color=_BEST, linewidth=1, linestyle=(0, (2, 3)), zorder=2)
    axes.annotate(
        "▲ best", (curves.best_epoch, 0), (0, -26), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
        ha="center", va="center", fontsize=8.5, weight="bold", color=_BEST,
    )  # fmt: skip
    if value is not None and math.isfinite(value):
        axes.plot(
            [curves.best_epoch], [value], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=_BEST,
            markeredgewidth=2, clip_on=False, zorder=4,
        )  # fmt: skip
