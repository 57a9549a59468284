"""Labels: numbers, star ratings and texts become 1, 0 or neither."""

from __future__ import annotations

import shlex
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lstm_ray.config import split_list
from lstm_ray.datasets.labels import (
    OTHER,
    ZERO_AND_ONE,
    LabelMapping,
    describe_labels,
    mapping_options,
    meant_labels,
    propose_mapping,
)
from lstm_ray.wording import join_list

STARS = LabelMapping(("4", "5.0"), ("1", "2"))
WORDS = LabelMapping(("pos",), ("neg", "very neg"))


@pytest.mark.parametrize(
    ("mapping", "values", "kind", "expected"),
    [
        (ZERO_AND_ONE, [1, 0, 2, None, -1], pa.int64(), [1, 0, OTHER, OTHER, OTHER]),
        (ZERO_AND_ONE, [True, False, None], pa.bool_(), [1, 0, OTHER]),
        (ZERO_AND_ONE, [1.0, 0.5, float("nan")], pa.float32(), [1, OTHER, OTHER]),
        (STARS, [1, 2, 3, 4, 5, None], pa.uint8(), [0, 0, OTHER, 1, 1, OTHER]),
        (STARS, [1.0, 4.5, 5.0], pa.float64(), [0, OTHER, 1]),
        (LabelMapping(("false",), ("true",)), [True, False], pa.bool_(), [0, 1]),
        (WORDS, ["pos", "neg", "very neg", "Pos", None], pa.string(), [1, 0, 0, OTHER, OTHER]),
        (WORDS, [" pos", "neg\n", "very neg ", "po s"], pa.string(), [1, 0, 0, OTHER]),
        (STARS, [Decimal("4.00"), Decimal("2.00"), Decimal("4.50"), None], pa.decimal128(5, 2), [1, 0, OTHER, OTHER]),
        (STARS, [4, 1, 3, 5], pa.dictionary(pa.int8(), pa.int64()), [1, 0, OTHER, 1]),
        (WORDS, [b"pos", b"\xff", b"neg"], pa.binary(), [1, OTHER, 0]),
        (LabelMapping(("génial",), ("de\u0301c\u0327u",)), ["ge\u0301nial", "déçu"], pa.string(), [1, 0]),
        (WORDS, ["pos", "neg", "pos", None], pa.dictionary(pa.int32(), pa.string()), [1, 0, 1, OTHER]),
        (WORDS, [], pa.string(), []),
    ],
)
def test_labels_are_decoded(mapping: LabelMapping, values: list[Any], kind: pa.DataType, expected: list[int]) -> None:
    assert mapping.problem(kind) is None or not mapping.is_given
    half = len(values) // 2
    column = pa.chunked_array([values[:half], values[half:]], kind)
    assert mapping.decode(column).tolist() == expected


@pytest.mark.parametrize(
    ("mapping", "kind", "problem"),
    [
        (ZERO_AND_ONE, pa.string(), "is string, expected 0 and 1: choose with --label-column"),
        (ZERO_AND_ONE, pa.date32(), "is date32[day], expected 0 and 1: choose with --label-column"),
        (
            ZERO_AND_ONE,
            pa.list_(pa.int8()),
            "is list<item: int8>, expected 0 and 1: write its labels to a column of their own, or choose with "
            "--label-column",
        ),
        (WORDS, pa.date32(), "is date32[day], expected texts or numbers: choose with --label-column"),
        (WORDS, pa.int8(), "is int8, but 'pos' of --positive-labels is not a number"),
        (
            LabelMapping(("4",), ("1-2",)),
            pa.int8(),
            "is int8, but '1-2' of --negative-labels is not a number; several are written --negative-labels 4,5",
        ),
        (
            LabelMapping(("4,5",), ("1",)),
            pa.int8(),
            "is int8, but '4,5' of --positive-labels is not a number; several are written --positive-labels 4,5",
        ),
    ],
)
def test_a_column_that_cannot_be_read_is_explained(mapping: LabelMapping, kind: pa.DataType, problem: str) -> None:
    assert mapping.problem(kind) == problem


STARS_OF_TEN = [number / 2 for number in range(1, 21)]


@pytest.mark.parametrize(
    ("labels", "positive", "negative", "listed"),
    [
        (["neg", "pos", None, "neg"], "pos", "neg", "'neg', 'pos'"),
        (["yes", "no"], "yes", "no", "'no', 'yes'"),
        (["Positive", "negative", "NEGATIVE "], "Positive", "NEGATIVE,negative", "'NEGATIVE', 'Positive', 'negative'"),
        (["Good", "bad", "so-so"], "Good", "bad", "'Good', 'bad', 'so-so'"),
        (["True", "False"], "True", "False", "'False', 'True'"),
        (["5", "1", "3", "2"], "5", "1,2", "'1', '2', '3', '5'"),
        (["1", "0", "unknown"], "1", "0", "'0', '1', 'unknown'"),
        ([1, 2, 3, 4, 5, None], "4,5", "1,2", "1, 2, 3, 4, 5"),
        ([0.5, 2, 3, 3.5, 5], "3.5,5", "0.5,2", "0.5, 2, 3, 3.5, 5"),
        ([0.5, 2, 3.5, 4.5], "3.5,4.5", "0.5,2", "0.5, 2, 3.5, 4.5"),
        ([1, 5.5, 9.5], "9.5", "1", "1, 5.5, 9.5"),
        (
            STARS_OF_TEN,
            "6.5,7,7.5,8,8.5,9,9.5,10",
            "0.5,1,1.5,2,2.5,3,3.5,4,4.5",
            "0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, ...",
        ),
        (["4,5", "0,5", "3,0", "5"], '"4,5",5', '"0,5"', "'0,5', '3,0', '4,5', '5'"),
        (list(range(11)), "7,8,9,10", "0,1,2,3,4", "0, 1, 2, 3, 4, 5, 6, 7, ..."),
        ([0, 1, 2, 3, 4], "3,4", "0,1", "0, 1, 2, 3, 4"),
        ([4, 0], "4", "0", "0, 4"),
        ([5, 1], "5", "1", "1, 5"),
        ([Decimal("4.50"), Decimal("1.00"), Decimal("5.00")], "4.5,5", "1", "1, 4.5, 5"),
        ([1, None], "1", "0", "1"),
        (
            ["Very Negative", "Negative", "Neutral", "extremely positive"],
            "extremely positive",
            "Negative,Very Negative",
            "'Negative', 'Neutral', 'Very Negative', 'extremely positive'",
        ),
        ([1.0, 0.0, float("nan")], "1", "0", "0, 1, nan"),
        ([True, None, False], "true", "false", "false, true"),
        ([True, None], "true", "false", "true"),
        ([0, 0.5, 1], "1", "0", "0, 0.5, 1"),
        (["1", "2", "3", "4", "5", "five"], "4,5", "1,2", "'1', '2', '3', '4', '5', 'five'"),
        (["5 stars", "1 star", "3 stars"], "5 stars", "1 star", "'1 star', '3 stars', '5 stars'"),
        (
            ["2.0 out of 5 stars", "5.0 out of 5 stars"],
            "5.0 out of 5 stars",
            "2.0 out of 5 stars",
            "'2.0 out of 5 stars', '5.0 out of 5 stars'",
        ),
    ],
)
def test_labels_that_are_clear_make_a_proposal_that_can_be_taken(
    labels: list[Any], positive: str, negative: str, listed: str
) -> None:
    column = pa.chunked_array([labels])
    assert describe_labels(column) == listed
    options = shlex.split((propose_mapping(column) or "").partition("left out): ")[2])
    assert options == ["--positive-labels", positive, "--negative-labels", negative]
    decoded = LabelMapping(split_list(positive), split_list(negative)).decode(column)
    assert 1 in decoded


@pytest.mark.parametrize(
    ("given", "labels", "meant"),
    [
        ("positive negative", ["Positive", "Negative"], "Positive Negative"),
        ("positive NEGATIVE", ["Positive", "Negative", "negative"], "Positive Negative,negative"),
        ("positiv negative", ["positive", "negative"], "positive negative"),
        ("good neg,bad", ["pos", "neg"], "pos neg"),
        ("satisfied unsatisfied", ["satisfied", "Unsatisfied"], "satisfied Unsatisfied"),
        ("5 1", ["5.0", "1.0"], "5.0 1.0"),
        ("true false", ["True", "False"], "True False"),
        ("4,5 1,2", ["1", "2,0", "3", "4", "4,0", "5", "5,0", "k.A."], """'4,"4,0",5,"5,0"' '1,"2,0"'"""),
        ("5 1", ["1", "5", "5,0"], """'5,"5,0"' 1"""),
        ("5 4", [1, 0], "1 0"),
        ("positive negative,bad", ["positive", "Negative"], "positive Negative"),
        ("4,5 1,0", ["1,0", "1,5", "4,0", "4,5", "5,0"], """'"4,5"' '"1,0"'"""),
        ("4,0,5,0 1,0,2,0", ["1,0", "2,0", "4,0", "5,0"], """'"4,0","5,0"' '"1,0","2,0"'"""),
        ("good so,so,bad", ["good", "bad", "so, so"], """good '"so, so",bad'"""),
        ("4,5 1,2", ["1,0", "2,0", "4,0", "5,0"], """'"4,0","5,0"' '"1,0","2,0"'"""),
        # None is meant, or which is unclear:
        ("4,5 1", ["1", "4", "4,5", "5"], None),
        ("4,5 bad", ["sad", "5,0", "4,0", "-"], None),
        ("positive negative", ["positive", "negative", "neutral"], None),
        ("pos,POS neg", ["pos", "neg"], None),
        ("5.0 1", [5, 1], None),
        ("4,5 1,2", [1], None),
        ("happy sad", ["unhappy", "sad"], None),
        ("positive negative", ["positive", "positive"], None),
        ("gut schlecht", ["happy", "sad"], None),
        ("g\u00e9nial nul", ["ge\u0301nial", "nul"], None),
        ("5 1", [5, 1, 3], None),
        ("pos neg", [], None),
    ],
    ids=str,
)
def test_labels_that_are_not_there_mean_similar_ones(given: str, labels: list[Any], meant: str | None) -> None:
    positive, negative = (tuple(side.split(",")) for side in given.split())
    options = meant_labels(LabelMapping(positive, negative), pa.chunked_array([labels]))
    assert (options and options.replace("--positive-labels ", "").replace(" --negative-labels", "")) == meant


@pytest.mark.parametrize(
    "labels",
    [
        ["Fresh", "Rotten"],
        ["happy", "sad"],
        ["Recommended", "Not recommended"],
        ["pos", "-"],
        ["1 star", "2 stars"],
        ["1 star", "5 stars", "best"],
        ["1", "5", "best"],
        ["1 of 10 stars", "10 of 10 stars"],
        [0, 1, 2],
        [1, 2, 3],
        [3, 4, 5],
        [0.5, 3.5],
        [1, 2, 3, 4],
        [-1, 0],
        [-2, -1, 0, 1, 2],
        [0, 100],
        [4],
        ["one"],
        ["0", "1_0"],
    ],
    ids=str,
)
def test_labels_that_may_mean_either_are_left_to_the_user(labels: list[Any]) -> None:
    said = propose_mapping(pa.chunked_array([labels])) or ""
    assert said.startswith("say which of these are positive, and which negative (rows with others")
    assert said.endswith(" left out): --positive-labels LABELS --negative-labels LABELS")


@pytest.mark.parametrize(
    ("labels", "proposal"),
    [
        ([1, 2], "if 2 means positive, --positive-labels 2 --negative-labels 1"),
        ([-1, 1], "if 1 means positive, --positive-labels 1 --negative-labels -1"),
        (["1", "2", ""], "if 2 means positive, --positive-labels 2 --negative-labels 1"),
        ([1, 0, -1], "if -1 means unknown, not negative, --positive-labels 1 --negative-labels 0"),
        (["0", "-1", "+1"], "if -1 means unknown, not negative, --positive-labels +1 --negative-labels 0"),
    ],
)
def test_numbers_that_usually_mean_the_classes_are_proposed_on_a_condition(labels: list[Any], proposal: str) -> None:
    column = pa.chunked_array([labels])
    assert (propose_mapping(column) or "").endswith(f" left out): {proposal}")
    assert mapping_options(column) == []


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ("4,5", ("4", "5")),
        (" 4 , 5,", ("4", "5")),
        (4, ("4",)),
        ([4, 5.0], ("4", "5.0")),
        ('"so, so",fine', ("so, so", "fine")),
        (["so, so", "fine"], ("so, so", "fine")),
        ("", ()),
        ("4\n5", ("4", "5")),
        ([" a", "b\nc", ""], (" a", "b\nc")),
    ],
)
def test_labels_are_a_list_or_a_text_with_commas_in_which_quotes_keep_one(given: Any, labels: tuple[str, ...]) -> None:
    assert split_list(given) == labels


def test_a_comma_before_three_digits_is_no_decimal_point() -> None:
    options = mapping_options(pa.chunked_array([["4,5", "0,5"]]))
    assert options == ["--positive-labels", '"4,5"', "--negative-labels", '"0,5"']
    assert mapping_options(pa.chunked_array([["5", "1,000"]])) == []


def test_a_proposal_with_commas_in_labels_can_be_taken() -> None:
    column = pa.chunked_array([["positive", "negative", "good", 'say "a, b"']])
    words = shlex.split((propose_mapping(column) or "").partition("left out): ")[2])
    assert split_list(words[1]) == ("good", "positive")
    assert join_list(["a, b", 'c "d"', "e"]) == '"a, b","c ""d""",e'
    assert split_list(join_list(["a, b", 'c "d"', "e"])) == ("a, b", 'c "d"', "e")


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ([1, 0, -1], "rows with others, such as -1 for unknown, are left out"),
        ([1.0, 0.0, float("nan"), None], "rows with others, such as nan and null for unknown, are left out"),
        (["pos", "neg", "N/A", " "], "rows with others, such as '' and 'N/A' for unknown, are left out"),
        (["1", "5,0", "k.A."], "rows with others, such as 'k.A.' for unknown, are left out"),
        (["pos", "neg", None], "rows with others, such as null for unknown, are left out"),
        ([-2, -1, 0, 1, 2], "rows with others are left out"),
        (["pos", "neg"], "rows with others are left out"),
    ],
)
def test_what_stands_for_no_label_is_named(labels: list[Any], named: str) -> None:
    assert named in (propose_mapping(pa.chunked_array([labels])) or "")


@pytest.mark.parametrize("labels", [[], [f"review {number}" for number in range(26)]])
def test_a_column_without_labels_makes_no_proposal(labels: list[Any]) -> None:
    kind = pa.string() if not labels else None
    assert propose_mapping(pa.chunked_array([labels], kind)) is None


@pytest.mark.parametrize("labels", [[-1, -1], [float("nan"), None], ["", "unknown"], [None]], ids=str)
def test_labels_that_all_stand_for_none_are_called_so(labels: list[Any]) -> None:
    column = pa.chunked_array([labels], pa.int8() if labels == [None] else None)
    assert str(propose_mapping(column)).startswith("no row has a label: score the rows with lstm-ray score, or ")


def test_the_labels_of_several_columns_are_listed_once() -> None:
    assert describe_labels(pa.chunked_array([["neg"]]), pa.chunked_array([["pos", "neg"]])) == "'neg', 'pos'"
    assert describe_labels(pa.chunked_array([[None]], pa.int8())) == "none"


@pytest.mark.parametrize(
    ("positive", "negative", "doubted"),
    [
        (("1", "2"), ("4", "5"), True),
        (("0.5", "1,5"), ("4",), True),
        (("4", "5"), ("1", "2"), False),
        (("1", "4"), ("2",), False),
        (("0",), ("1",), False),
        (("bad", "1"), ("2",), False),
        ((), (), False),
    ],
    ids=str,
)
def test_a_scale_whose_low_end_is_positive_is_doubted(
    positive: tuple[str, ...], negative: tuple[str, ...], doubted: bool
) -> None:
    doubt = LabelMapping(positive, negative).doubt()
    assert (doubt is not None) == doubted
    assert doubt is None or f"({', '.join(positive)}) are lower" in doubt
