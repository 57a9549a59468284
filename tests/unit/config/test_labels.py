"""The lists of positive and negative labels."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lstm_ray.config import EvaluateConfig, TrainConfig, resolve, to_yaml

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
