"""Maps a label column (1 and 0, star ratings, or texts) to 1 and 0."""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lstm_ray.config import LabelSettings
from lstm_ray.text.tokenize import decode_texts, is_text_type
from lstm_ray.wording import WITH_COMMA, join_list, quoted, shortened

OTHER = -1
"""A label that is neither positive nor negative."""

_STARS = re.compile(r"(\d(?:\.\d)?)(?: out of 5)? stars?", re.IGNORECASE)  # 4.0 out of 5 stars
_MOST_SHOWN = 8  # labels in a message
_LEAST_ALIKE = 0.75  # of two words that one may have been written for, as difflib measures it; opposites have 0.5
_MOST_CLASSES = 25  # a column with more distinct values does not contain labels
_POSITIVE = ("positive", "pos", "good", "yes", "true")
_NEGATIVE = ("negative", "neg", "bad", "no", "false")
_DEGREE = re.compile("^(very|extremely|strongly)[ _-]")  # very negative, as in SST-5
_NO_LABEL = ("", "nan", "null", "none", "na", "n/a", "n.a.", "k.a.", "unknown")
_UNKNOWN = (*_NO_LABEL, "-1", "-1.0")
# Scales: their highest number, where their lowest may be, and between which numbers a label is neither. 0 to 4 is SST's
# and Sentiment140's; below 5 and above 6 of 10 is nearly where IMDb's reviews were cut (Maas et al. 2011).
_SCALES = ((4, 0, 2, 2), (5, 2.5, 3, 3), (10, 4.5, 5, 6))
_PAIRS = ({-1, 1}, {1, 2})  # as classifiers, and the polarity sets of reviews (Zhang et al. 2015), number two classes
_NAMELESS: Mapping[str, str] = {}
_PLACEHOLDERS = "--positive-labels LABELS --negative-labels LABELS"
_CHOOSE = "choose with --label-column"
_NONE = (
    f"no row has a label: score the rows with lstm-ray score, or {_CHOOSE}; if other files have labels, name these, "
    f"and rows without one are left out: {_PLACEHOLDERS}"
)


@dataclass(frozen=True)
class LabelMapping:
    """Which labels are positive and which negative.

    Attributes:
        positive: Positive labels; empty without a mapping, where 1 is positive and 0 negative.
        negative: Negative labels.
    """

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    @property
    def is_given(self) -> bool:
        """Returns whether there is a mapping. Without one, only 1 and 0 are allowed."""
        return bool(self.positive)

    def doubt(self) -> str | None:
        """Returns why the classes may be exchanged: the positive numbers of a scale are its low ones; else None."""
        sides = [[_number(label) for label in labels] for labels in (self.positive, self.negative)]
        positive, negative = ([number for number in side if number is not None] for side in sides)
        is_scale = len(positive) + len(negative) == len(self.positive) + len(self.negative) > 2
        if not is_scale or max(positive) >= min(negative):
            return None
        return (
            f"the --positive-labels ({', '.join(self.positive)}) are lower than the --negative-labels "
            f"({', '.join(self.negative)}): exchange them if high numbers are good"
        )

    def problem(self, kind: pa.DataType) -> str | None:
        """Returns why a column of this type cannot be read, as the end of a sentence; None if it can be."""
        if pa.types.is_null(kind):  # no row has a label, which decides nothing about the labels in other files
            return None
        if is_text_type(kind):
            return None if self.is_given else f"is {kind}, expected 0 and 1: {_CHOOSE}"
        if not _is_number_type(kind):
            inside = "write its labels to a column of their own, or " if pa.types.is_nested(kind) else ""
            return f"is {kind}, expected {'texts or numbers' if self.is_given else '0 and 1'}: {inside}{_CHOOSE}"
        for option, labels in (("--positive-labels", self.positive), ("--negative-labels", self.negative)):
            for label in labels:
                if _number(label) is None or "," in label:
                    several = f"; several are written {option} 4,5" if any(map(str.isdigit, label)) else ""
                    return f"is {kind}, but {label!r} of {option} is not a number{several}"
        return None

    def decode(self, column: pa.ChunkedArray) -> npt.NDArray[np.int8]:
        """Returns 1, 0 or `OTHER` for each row, int8[rows]. The column's type must have no `problem`."""
        if is_text_type(column.type):
            values: pa.Array = pc.utf8_normalize(pc.utf8_trim_whitespace(decode_texts(column)), "NFC")
            positive, negative = (
                pa.array(map(_in_nfc, labels), pa.large_string()) for labels in (self.positive, self.negative)
            )
        else:
            values = (
                _plain(column).cast(pa.float64(), safe=False).combine_chunks()
            )  # a number beyond 2^53 is not a label
            both = (self.positive, self.negative) if self.is_given else (("1",), ("0",))
            positive, negative = (pa.array([_number(label) for label in labels], pa.float64()) for labels in both)
        decoded = np.full(len(values), OTHER, np.int8)
        decoded[_is_in(values, positive)] = 1
        decoded[_is_in(values, negative)] = 0
        return decoded


ZERO_AND_ONE = LabelMapping()
"""No mapping: a label is 1 or 0."""


def label_mapping(settings: LabelSettings) -> LabelMapping:
    """Returns the mapping in the settings."""
    return LabelMapping(settings.positive_labels, settings.negative_labels)


def class_names(schema: pa.Schema, column: str) -> dict[str, str]:
    """Returns what Hugging Face's `datasets` has written to a file about the meaning of integer labels: "0" -> "neg".

    Of metadata in any other form nothing is returned.
    """
    with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][column]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
        if isinstance(names, list) and pa.types.is_integer(schema.field(column).type):
            return {str(label): name for label, name in enumerate(names) if isinstance(name, str)}
    return {}


def why_reversed(names: Mapping[str, str]) -> str | None:
    """Returns why 1 cannot be positive and 0 negative, as the end of a sentence; None unless the names say so."""
    sides = _Proposal(*_known(names))
    if "0" not in sides.positive or not sides.negative:
        return None
    meanings = ", ".join(f"{label} is {names[label]!r}" for label in (*sides.positive, *sides.negative))
    return f"has names of its labels ({meanings}): name the labels of each class: {quoted(*sides.options())}"


def _known(words: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns the labels whose words are known to be positive, and those whose words are known to be negative."""
    positive, negative = (
        [label for label, word in words.items() if _DEGREE.sub("", word.lower()) in known]
        for known in (_POSITIVE, _NEGATIVE)
    )
    return positive, negative


def propose_mapping(column: pa.ChunkedArray, names: Mapping[str, str] = _NAMELESS) -> str | None:
    """Returns advice on mapping the labels of a column, as the end of a sentence; None if it does not contain labels.

    Only what cannot mean anything else is proposed: known words (those of `names`, if all labels have names), 1 and 0,
    and both sides of a known scale; for -1 and 1, or 1 and 2, what they usually mean, as a condition. Elsewhere the
    user fills in which label is positive: no order, of the alphabet or of numbers, says so.
    """
    proposal = _propose(column, names)
    if proposal is None:
        return _NONE if _has_none(column) else None
    form = "'{}'" if is_text_type(column.type) else "{}"
    unknown = [*map(form.format, proposal.unknown), *(["null"] if column.null_count else [])]
    such = f", such as {' and '.join(unknown)} for unknown," if unknown else ""
    options = quoted(*proposal.options())
    condition = f"if {proposal.condition}, " if proposal.condition else ""
    what = "name the labels of each class" if options else "say which of these are positive, and which negative"
    return f"{what} (rows with others{such} are left out): {condition}{options or _PLACEHOLDERS}"


def _has_none(column: pa.ChunkedArray) -> bool:
    """Returns whether every label stands for none, as in the published test parts of some datasets."""
    return (
        may_hold_labels(column.type)
        and len(column) > 0
        and all(label.lower() in _UNKNOWN for label in _distinct(column))
    )


def mapping_options(column: pa.ChunkedArray, names: Mapping[str, str] = _NAMELESS) -> list[str]:
    """Returns the options that map a column's labels; none for a column of 1 and 0, and where they are not clear."""
    proposal = _propose(column, names)
    if why_reversed(names) is None and _are_0_and_1(column):
        return []
    return proposal.options() if proposal is not None and not proposal.condition else []


def may_hold_labels(kind: pa.DataType) -> bool:
    """Returns whether a column of this type may hold labels: numbers or texts."""
    return is_text_type(kind) or _is_number_type(kind)


def may_be_labels(column: pa.ChunkedArray) -> bool:
    """Returns whether a column has at least two different values, and few enough for labels."""
    proposal = _propose(column, _NAMELESS)
    return proposal is not None and len(_distinct(column)) - len(proposal.unknown) > 1


def are_clear(column: pa.ChunkedArray) -> bool:
    """Returns whether it is clear which of a column's labels are positive."""
    return _are_0_and_1(column) or bool(mapping_options(column))


def _are_0_and_1(column: pa.ChunkedArray) -> bool:
    is_complete = _is_number_type(column.type) and not column.null_count
    return is_complete and set(_distinct(column)) <= {"0", "1", "false", "true"}


@dataclass(frozen=True)
class _Proposal:
    """How to map labels.

    Attributes:
        positive: Labels of the positive class; none where it is unclear which they are.
        negative: Labels of the negative class.
        unknown: Labels that stand for no label.
        condition: What must hold for this, if the labels may also mean something else; else "".
    """

    positive: list[str]
    negative: list[str]
    unknown: Sequence[str] = ()
    condition: str = ""

    def options(self) -> list[str]:
        """Returns the options; none where the labels are not clear."""
        if not (self.positive and self.negative):
            return []
        return ["--positive-labels", join_list(self.positive), "--negative-labels", join_list(self.negative)]


def _propose(column: pa.ChunkedArray, names: Mapping[str, str]) -> _Proposal | None:
    """Returns how to map the labels of a column; None if it does not have labels."""
    if not may_hold_labels(column.type):
        return None
    found = _distinct(column)
    numbers = {_number(label) for label in found if label.lower() not in _NO_LABEL}
    is_signed = numbers == {-1, 1} or any(number is not None and number < -1 for number in numbers)
    unknown = [label for label in found if label.lower() in (_NO_LABEL if is_signed else _UNKNOWN)]
    labels = [label for label in found if label not in unknown]
    if not labels or len(labels) > _MOST_CLASSES:
        return None
    positive, negative = _known(names)
    if positive and negative and set(labels) <= set(names):
        return _Proposal(positive, negative, unknown)
    positive, negative = _sides(labels, "-1" in unknown)
    condition = f"{positive[0]} means positive" if set(map(_number, labels)) in _PAIRS else ""
    if numbers == {-1, 0, 1}:  # of negative, neutral and positive there are many datasets
        condition = "-1 means unknown, not negative"
    return _Proposal(positive, negative, unknown, condition)


def _sides(labels: Sequence[str], has_minus_one: bool) -> tuple[list[str], list[str]]:
    """Returns the labels that are certainly positive, and those certainly negative; empty if that is unclear."""
    numbers = {label: number for label in labels if (number := _number(label)) is not None}
    if len(numbers) < len(labels):
        stars = {label: float(found[1]) for label in labels if (found := _STARS.fullmatch(label))}
        if len(stars) == len(labels):
            return _ends(stars)
        known = _known({label: label for label in labels})
        # Among the numbers of a scale, a word such as 'five' is left out.
        return known if any(known) or len(numbers) < 4 * (len(labels) - len(numbers)) else _ends(numbers)
    values = set(numbers.values())
    if values in _PAIRS:
        positive, negative = ([one for one in labels if numbers[one] == side] for side in (max(values), min(values)))
        return positive, negative
    if values <= {0, 0.5, 1}:
        # If only one class occurs besides null, the other one is 0 or 1; besides -1, the other one may be -1 itself.
        if len(values) == 1 and has_minus_one:
            return [], []
        usual = ("true", "false") if "true" in map(str.lower, labels) else ("1", "0")
        ones, zeros = ([label for label in labels if numbers[label] == value] for value in (1, 0))
        return ones or [usual[0]], zeros or [usual[1]]
    return _ends(numbers)


def _ends(numbers: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Returns the labels at both ends of the scale that their numbers are of; empty if they are of none."""
    least, most = min(numbers.values()), max(numbers.values())
    for highest, lowest, low, high in _SCALES:
        # A scale of half stars that goes beyond 4 goes to 5, even if nothing has 5.
        is_reached = most == highest or (most == highest - 0.5 and highest > 4)
        if 0 <= least <= lowest and is_reached:
            return [one for one in numbers if numbers[one] > high], [one for one in numbers if numbers[one] < low]
    return [], []


def describe_labels(*columns: pa.ChunkedArray) -> str:
    """Returns the labels in columns for a message, without null: 'neg', 'pos'; or 1, 2, 3, 4, 5; or none."""
    labels = (
        shortened(repr(label)) if is_text_type(column.type) else label
        for column in columns
        for label in _distinct(column)
    )
    shown = list(dict.fromkeys(labels))
    return (", ".join(shown[:_MOST_SHOWN]) + (", ..." if len(shown) > _MOST_SHOWN else "")) or "none"


def meant_labels(mapping: LabelMapping, *columns: pa.ChunkedArray) -> str | None:
    """Returns the options with the labels that are meant, if they differ from those of the mapping; else None.

    A label is meant by one that differs in case or a few letters, but not in the first one: "happy" is not "unhappy".
    A number is meant in all its spellings: by 5 also 5,0 and 5.0. By 4 and 5, 4,5 is meant if only that is there.
    If none is, but a side has no label at all, the labels are those that `propose_mapping` is certain of.
    """
    found = list(dict.fromkeys(label for column in columns for label in _distinct(column)))
    # In a column of numbers, 5 and 5.0 are the same label.
    spelled = _in_nfc if any(is_text_type(column.type) for column in columns) else _key
    given = [_uncut(labels, found) for labels in (mapping.positive, mapping.negative)]
    there, positive, negative = ({*map(spelled, labels)} for labels in (found, *given))
    others = {label: _key(label) for label in found if spelled(label) not in positive | negative}
    similar: dict[str, list[str]] = {}
    for label in chain(*given):
        is_there = spelled(label) in there
        near = [] if is_there and _number(label) is None else _similar(label, others)
        if near:
            similar[label] = [label, *near] if is_there else near
    if similar or given != [mapping.positive, mapping.negative]:
        ones, zeros = (
            [one for label in labels for one in similar.get(label, [label] if spelled(label) in there else [])]
            for labels in given
        )
        if not {*ones}.isdisjoint(zeros):
            return None
        meant = _Proposal(ones, zeros)
    else:
        proposal = _propose(pa.chunked_array([found], pa.large_string()), _NAMELESS)
        if proposal is None or proposal.condition or (positive & there and negative & there):
            return None
        meant = proposal
        certain = [{*map(spelled, labels)} for labels in (meant.positive, meant.negative)]
        if certain[0] & negative or certain[1] & positive or not certain[0] | certain[1] <= there:
            return None
    return quoted(*meant.options()) or None


def _uncut(labels: tuple[str, ...], found: Sequence[str]) -> tuple[str, ...]:
    """Returns labels joined where they were cut at a comma in them: 4,5 for 4 and 5 if only 4,5 is found."""
    whole = {re.sub(r"\s*,\s*", ",", _in_nfc(label)): label for label in found}
    if whole.keys() >= {*map(_in_nfc, labels)}:
        return labels
    joined, rest = [], [*map(_in_nfc, labels)]
    while rest:
        end = next((end for end in range(len(rest), 0, -1) if ",".join(rest[:end]) in whole), 0)
        if not end:
            return labels
        joined.append(whole[",".join(rest[:end])])
        rest = rest[end:]
    return tuple(joined)


def _similar(label: str, others: Mapping[str, str]) -> list[str]:
    """Returns those of other labels, by their keys, that a label may stand for: all spellings of the closest one."""
    key, is_word = _key(label), _number(label) is None
    near = {one for one in others.values() if one == key or (is_word and one[:1] == key[:1])}
    closest = difflib.get_close_matches(key, near, 1, _LEAST_ALIKE)
    return [one for one, its_key in others.items() if its_key in closest]


def _in_nfc(label: str) -> str:
    return unicodedata.normalize("NFC", label)


def _key(label: str) -> str:
    """Returns what two spellings of a label have in common: 5 and 5.0, Positive and positive."""
    number = _number(label)
    return _in_nfc(label).casefold() if number is None else _written(number)


def has_words(labels: pa.ChunkedArray) -> bool:
    """Returns whether some texts are labels, but no numbers."""
    return any(_number(label) is None and label.lower() not in _NO_LABEL for label in _distinct(labels))


def written_labels(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns the distinct labels of a column as texts, and null if it has any."""
    return pa.chunked_array([[*_distinct(column), *([None] if column.null_count else [])]], pa.large_string())


def _distinct(column: pa.ChunkedArray) -> list[str]:
    """Returns the distinct labels of a column, sorted and as they are written in options."""
    if is_text_type(column.type):
        labels = pc.unique(pc.utf8_trim_whitespace(decode_texts(column)).drop_null()).to_pylist()
    else:
        labels = list(dict.fromkeys(_written(value) for value in pc.unique(_plain(column).drop_null()).to_pylist()))
    numbers = {label: number for label in labels if (number := _number(label)) is not None}
    return sorted(sorted(labels), key=numbers.__getitem__ if len(numbers) == len(labels) else None)


def _is_number_type(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
    )


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Returns a column of numbers without dictionary encoding."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _written(value: bool | float | Decimal) -> str:
    """Returns a number in its shortest form: 4 and -1, also for 4.0 and -1.00."""
    if isinstance(value, bool) or not math.isfinite(value):
        return str(value).lower()
    return f"{int(value)}" if value == int(value) else str(float(value))


def _is_in(values: pa.Array, labels: pa.Array) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.is_in(values, value_set=labels).to_numpy(zero_copy_only=False)
    return found


def _number(label: str) -> float | None:
    if label.lower() in ("true", "false"):
        return float(label.lower() == "true")
    if WITH_COMMA.fullmatch(label):
        label = label.replace(",", ".")
    try:
        return None if "_" in label else float(label)  # Python reads 1_0 as 10
    except ValueError:
        return None
