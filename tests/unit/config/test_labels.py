"""The lists of positive and negative labels."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lstm_ray.config import EvaluateConfig, TrainConfig, resolve, to_yaml
from lstm_ray.errors import ConfigError

Job = Callable[[str], Path]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("4,5", ("4", "5")),
        ("[4, 5]", ("4", "5")),
        ("5", ("5",)),
        ("[yes, 'a b']", ("yes", "a b")),
        ("[true, 'a b']", ("true", "a b")),
        ("4, ,5,", ("4", "5")),
        ("'\"so, so\",fine'", ("so, so", "fine")),
    ],
)
def test_labels_are_given_with_commas_or_as_a_list(job: Job, written: str, expected: tuple[str, ...]) -> None:
    path = job(f"positive_labels: {written}\nnegative_labels: [0]\n")
    for kind in (TrainConfig, EvaluateConfig):
        assert resolve(kind, {}, path).positive_labels == expected
    made = resolve(TrainConfig, {"positive_labels": ("so, so", "fine"), "negative_labels": ("1",)})
    assert made.positive_labels == ("so, so", "fine")
    assert resolve(TrainConfig, {}, job(to_yaml(made))).positive_labels == ("so, so", "fine")


@pytest.mark.parametrize(
    ("positive", "negative", "hint"),
    [
        (
            "4,0,5,0",
            "1,0,2,0",
            ": a comma separates labels; labels with a comma are written "
            """--positive-labels '"4,0","5,0"' --negative-labels '"1,0","2,0"'""",
        ),
        (
            "5,0",
            "0",
            ": a comma separates labels; labels with a comma are written "
            """--positive-labels '"5,0"' --negative-labels 0""",
        ),
        *(
            (
                positive,
                negative,
                ": a comma separates labels; labels with a comma are written "
                """--positive-labels '"4,0","5,0"' --negative-labels '"1,0","2,0"'""",
            )
            for positive, negative in (("4,0 5,0", "1,0 2,0"), ("4,0;5,0", "1,0; 2,0"))
        ),
        ("pos,good", "pos,bad", ""),
        ("4,5", "4,5", ""),
        ("3,4", "1,2,3", ""),
    ],
)
def test_a_label_of_both_classes_may_be_the_half_of_one_with_a_comma(positive: str, negative: str, hint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(TrainConfig, {"positive_labels": positive, "negative_labels": negative})
    assert str(raised.value).partition("--negative-labels")[2] == hint
