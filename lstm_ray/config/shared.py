"""Settings that several commands share."""

from __future__ import annotations

import csv
import io
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from lstm_ray.config.base import BAND, FILES, Settings, fixed, free, setting
from lstm_ray.runtime.addresses import refuse_password
from lstm_ray.wording import WITH_COMMA, join_list, quoted

Precision = Literal["float32", "bf16", "int8"]


class InputSettings(Settings):
    """The inputs of `score`, `evaluate`, `calibrate` and `data split`."""

    inputs: tuple[str, ...] = setting(
        (),
        "Reviews as Parquet: files, directories, globs, or s3:// gs:// abfs:// URIs.",
        panel=FILES,
        argument=True,
        must_be_given=True,
        path="input",
        fingerprint="content",
    )


class BundleSettings(Settings):
    """The model of `score`, `evaluate`, `calibrate` and `predict`."""

    model: str = setting(
        "",
        "Directory of the model bundle, such as OUTPUT/model of train.",
        panel=FILES,
        metavar="DIR",
        must_be_given=True,
        path="input",
        fingerprint="content",
    )


class ColumnSettings(Settings):
    """Where the texts are, for all commands."""

    text_column: str = fixed("text", "Column of the reviews.", panel=FILES, metavar="NAME", fingerprint="value")


class RowSettings(ColumnSettings):
    """Which rows of the input are read, for all commands that may take some of them."""

    max_rows: int | None = fixed(
        None,
        "Use at most this many rows, for a quick try: a random sample of the input; score takes the first rows.",
        panel=FILES,
        ge=1,
        fingerprint="value",
    )


def split_list(given: Any) -> Any:
    """Returns names or labels as texts: of a text such as '4,5' or '"yes, good",fine' its values, of a list each item.

    Spaces around the values of a text are left out; an item of a list stays as it is.

    Raises:
        ValueError: The text cannot be split.
    """
    if isinstance(given, str):
        try:
            rows = list(csv.reader(io.StringIO(given, newline=""), skipinitialspace=True))
        except csv.Error as error:
            raise ValueError(f"cannot be split at commas: {error}") from error
        given = [value.strip() for row in rows for value in row]
    parts = given if isinstance(given, list | tuple) else (given,)
    if not all(isinstance(part, str | int | float) for part in parts):
        return given  # pydantic says what is wrong with it
    texts = map(_as_text, parts)
    return tuple(text for text in texts if text)


def _stripped(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(label.strip() for label in labels if label.strip())


NameList = Annotated[tuple[str, ...], BeforeValidator(split_list)]
LabelList = Annotated[NameList, AfterValidator(_stripped)]


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
        "Labels that mean positive, separated by commas, such as 4,5 or '\"so, so\",fine'; other rows are left out.",
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
            raise ValueError(
                f"`{missing}_labels` is missing beside `{given}_labels`: rows with labels of neither are left out"
            )
        positives = {_canonical(label): label for label in positive}
        for label in negative:
            if (same := positives.get(_canonical(label))) is not None:
                written = "" if same == label else f" (there as {same!r})"
                hint = _cut_at_commas(positive, negative)
                raise ValueError(f"label {label!r} is in `positive_labels`{written} and in `negative_labels`{hint}")
        return self


def _cut_at_commas(positive: tuple[str, ...], negative: tuple[str, ...]) -> str:
    """Returns how to write labels such as 4,0 and 5,0 which were split at their commas, as the end of a message."""
    whole = [_in_pairs(labels) or labels for labels in (positive, negative)]
    before_commas = {label.partition(",")[0] for labels in whole for label in labels if "," in label}
    # In 3,4 and 1,2,3 the label of both is what stands before a comma: no decimal, but a label given twice.
    if not before_commas or before_commas & {*positive} & {*negative} or not {*whole[0]}.isdisjoint(whole[1]):
        return ""
    ones, zeros = (quoted(join_list(labels)) for labels in whole)
    written = f"`positive_labels` {ones} `negative_labels` {zeros}"
    return f": a comma separates labels; labels with a comma are written {written}"


def _in_pairs(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns numbers with decimal commas that were cut there, 4,0 and 5,0 of "4,0,5,0" or "4,0 5,0"; () if not all."""
    parts = re.split(r"[\s;\"']+", ",".join(labels).strip("\"' "))
    pairs = tuple(parts) if len(parts) > 1 else tuple(map(",".join, zip(labels[::2], labels[1::2], strict=False)))
    return pairs if (len(parts) > 1 or len(labels) % 2 == 0) and all(map(WITH_COMMA.fullmatch, pairs)) else ()


def without_password(address: str | None) -> str | None:
    """Returns an address. Raises ConfigError if it has a password, before that is written to a file."""
    if address is not None:
        refuse_password(address)
    return address


class RaySettings(Settings):
    """The Ray cluster that runs the workers of `train` and the actors of `score`."""

    address: Annotated[str, AfterValidator(without_password)] = free(
        "local",
        "Ray cluster to run on: local starts Ray on this machine; auto, HOST:PORT (of Ray or its dashboard) or "
        "ray://HOST:PORT connects to a running cluster.",
        panel="Compute",
        metavar="local|auto|HOST:PORT",
        fingerprint="nothing",
    )


class PrecisionSettings(Settings):
    """How exactly the native engine scores: `score`, `evaluate` and a loaded model."""

    precision: Precision = setting(
        "float32",
        "Number format of the native engine: bf16 and int8 are faster, and less exact; the processor must support it.",
        panel="Compute",
        fingerprint="value if changed",
    )


class Threshold(Settings):
    """The threshold, for all commands that decide."""

    threshold: float | None = fixed(
        None,
        "Probability above which a review counts as positive; by default the model's threshold, and 0.5 in training.",
        panel="Threshold",
        gt=0,
        lt=1,
        fingerprint="value if changed",
    )


class DecisionSettings(Threshold):
    """How a probability becomes a sentiment: `score`, `predict` and a loaded model."""

    unsure: str | None = setting(
        None,
        "Range of probabilities that get the sentiment unsure, so that people can decide.",
        panel="Threshold",
        metavar="LOW:HIGH",
        examples=["0.4:0.6"],
        pattern=BAND,
        fingerprint="value if changed",
    )

    @property
    def decision(self) -> tuple[float | None, tuple[float, float] | None]:
        """Returns the threshold, and the lowest and highest probability that is unsure; None if not given."""
        if self.unsure is None:
            return self.threshold, None
        low, high = map(float, self.unsure.split(":"))
        if low >= high:
            raise ValueError(f"`unsure` {self.unsure!r}: the first probability is the least, the second the greatest")
        return self.threshold, (low, high)

    @model_validator(mode="after")
    def _has_a_band(self) -> DecisionSettings:
        assert self.decision  # raises ValueError if its numbers are in the wrong order
        return self


class ThresholdSettings(Threshold):
    """How the threshold is chosen: `train`, `evaluate` and `calibrate`."""

    maximize: Literal["accuracy", "balanced_accuracy", "f1"] | None = fixed(
        None, "Choose the threshold that maximizes this metric on the labelled rows.", panel="Threshold"
    )
    target_precision: float | None = fixed(
        None,
        "Choose the threshold with the highest recall among those with at least this precision.",
        panel="Threshold",
        metavar="SHARE",
        gt=0,
        le=1,
    )
    target_recall: float | None = fixed(
        None,
        "Choose the threshold with the highest precision among those with at least this recall.",
        panel="Threshold",
        metavar="SHARE",
        gt=0,
        le=1,
    )

    @property
    def goal(self) -> tuple[str, Any] | None:
        """Returns the setting that a threshold is chosen by, and its value; None if none is to be chosen."""
        names = ("maximize", "target_precision", "target_recall")
        return next(((name, getattr(self, name)) for name in names if getattr(self, name) is not None), None)

    @model_validator(mode="after")
    def _has_one_goal(self) -> ThresholdSettings:
        names = ("threshold", "maximize", "target_precision", "target_recall")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"`{given[0]}` and `{given[1]}` exclude each other")
        return self


def _as_text(label: str | float) -> str:
    return str(label).lower() if isinstance(label, bool) else str(label)  # YAML's true is what Arrow prints as true


def _canonical(label: str) -> str:
    label = {"true": "1", "false": "0"}.get(label.lower(), label)  # as a column of numbers is compared with it
    try:
        return f"{float(label):.17g}"  # all digits: 1000001 is not 1000002
    except ValueError:
        return label
