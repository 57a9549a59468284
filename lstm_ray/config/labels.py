"""Settings for the labels, shared by training and evaluation."""

from __future__ import annotations

import csv
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from lstm_ray.config.base import FILES, Settings, fixed


def split_labels(given: Any) -> Any:
    """Returns labels as texts: of a text such as '4,5' or '"yes, good",fine' its values, of a list each item."""
    if isinstance(given, str):
        given = next(csv.reader([given], skipinitialspace=True), [])
    parts = given if isinstance(given, list | tuple) else (given,)
    if not all(isinstance(part, str | int | float) for part in parts):
        return given  # pydantic says what is wrong with it
    labels = (_as_text(part).strip() for part in parts)
    return tuple(label for label in labels if label)


LabelList = Annotated[tuple[str, ...], BeforeValidator(split_labels)]


class LabelSettings(Settings):
    """Where the labels are, and what they mean."""

    label_column: str = fixed(
        "label",
        "Column of the labels: 1 is positive, 0 negative, unless --positive-labels and --negative-labels are given.",
        panel=FILES,
        metavar="NAME",
    )
    positive_labels: LabelList = fixed(
        (),
        'Labels that mean positive, separated by commas, such as 4,5 or "so, so",fine; rows with others are left out.',
        panel=FILES,
        metavar="LABEL,...",
    )
    negative_labels: LabelList = fixed((), "Labels that mean negative, such as 1,2.", panel=FILES, metavar="LABEL,...")

    @model_validator(mode="after")
    def _are_disjoint(self) -> LabelSettings:
        """Raises ValueError unless both lists are given or none, without a label in common."""
        positive, negative = self.positive_labels, self.negative_labels
        if bool(positive) != bool(negative):
            given, missing = ("positive", "negative") if positive else ("negative", "positive")
            raise ValueError(f"`{given}_labels` needs `{missing}_labels` too: rows with other labels are left out")
        positives = {_canonical(label): label for label in positive}
        for label in negative:
            if (same := positives.get(_canonical(label))) is not None:
                written = "" if same == label else f" (there as {same!r})"
                raise ValueError(f"label {label!r} is in `positive_labels`{written} and in `negative_labels`")
        return self


def _as_text(label: str | float) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)  # YAML's true is what Arrow prints as true


def _canonical(label: str) -> str:
    label = {"true": "1", "false": "0"}.get(label.lower(), label)  # as a column of numbers is compared with it
    try:
        return f"{float(label):.17g}"  # all digits: 1000001 is not 1000002
    except ValueError:
        return label
