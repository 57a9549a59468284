"""The two settings that say which labels mean what, for training and evaluation alike."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

HELP_COLUMN = "Column of the labels: 1 positive, 0 negative, or what --positive-labels and --negative-labels say."
HELP_POSITIVE = "Labels that mean positive, separated by commas, such as 4,5; rows with other labels are left out."
HELP_NEGATIVE = "Labels that mean negative, such as 1,2."
METAVAR = "LABEL,..."


def split_labels(given: Any) -> Any:
    """Returns labels as texts: "4,5", 4 and ["4,5"] from options and job files, [4, 5] from job files."""
    parts = given if isinstance(given, list | tuple) else (given,)
    if not all(isinstance(part, str | int | float) for part in parts):
        return given  # pydantic says what is wrong with it
    labels = (label.strip() for part in parts for label in _as_text(part).split(","))
    return tuple(label for label in labels if label)


LabelList = Annotated[tuple[str, ...], BeforeValidator(split_labels)]


def check_labels(positive: tuple[str, ...], negative: tuple[str, ...]) -> None:
    """Raises ValueError unless both lists are given or none, without a label in common."""
    if bool(positive) != bool(negative):
        there, lacking = ("positive", "negative") if positive else ("negative", "positive")
        raise ValueError(f"`{there}_labels` needs `{lacking}_labels` too: rows with other labels are left out")
    positives = {_canonical(label): label for label in positive}
    for label in negative:
        if (same := positives.get(_canonical(label))) is not None:
            written = "" if same == label else f" (there as {same!r})"
            raise ValueError(f"label {label!r} is in `positive_labels`{written} and in `negative_labels`")


def _as_text(label: str | float) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)  # YAML's true is what Arrow prints as true


def _canonical(label: str) -> str:
    label = {"true": "1", "false": "0"}.get(label.lower(), label)  # as a column of numbers is compared with it
    try:
        return f"{float(label):.17g}"  # all digits: 1000001 is not 1000002
    except ValueError:
        return label
