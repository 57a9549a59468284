"""The figures of each part alone, and when advice is given."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.report.parts import advice, part_figures


def row(mixed: float, lstm: float, ngrams: float) -> dict[str, Any]:
    return {
        "validation_accuracy": mixed,
        "validation_lstm_accuracy": lstm,
        "validation_lstm_loss": 0.5,
        "validation_ngram_accuracy": ngrams,
        "validation_ngram_loss": 0.45,
        "lstm_share": 0.31,
    }


def test_each_part_is_shown_alone() -> None:
    figures = {name: figure for name, figure, _ in part_figures(row(0.82, 0.8, 0.81))}
    assert figures == {
        "LSTM alone": "0.8000",
        "LSTM alone, log loss": "0.5000",
        "n-grams alone": "0.8100",
        "n-grams alone, log loss": "0.4500",
        "LSTM's share": "31%",
    }


@pytest.mark.parametrize("empty", [{}, {"validation_accuracy": 0.8}, {**row(0.8, 0.8, 0.8), "lstm_share": None}])
def test_without_ngrams_or_validation_there_is_nothing_to_say(empty: dict[str, Any]) -> None:
    assert list(part_figures(empty)) == []
    assert advice(empty, {}) is None


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.82, 0.81, 0.80), None),
        ((0.82, 0.80, 0.80), "the LSTM alone (0.8000) does not beat the n-grams alone (0.8000): word vectors"),
        ((0.80, 0.70, 0.80), "with the LSTM (0.8000) the model is no better than the n-grams alone (0.8000): word"),
        ((0.79, 0.81, 0.80), "with the LSTM (0.7900) the model is no better"),
    ],
)
def test_a_network_that_loses_to_the_ngrams_is_pointed_out(figures: tuple[float, ...], said: str | None) -> None:
    found = advice(row(*figures), {})
    assert found is None if said is None else found is not None and found.startswith(said)


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((0.20, 0.22, 0.23), None),
        (
            (0.20, 0.24, 0.23),
            "the LSTM alone (log loss 0.2400) does not beat the n-grams alone (log loss 0.2300): word",
        ),
        ((0.23, 0.24, 0.23), "with the LSTM (log loss 0.2300) the model is no better than the n-grams alone (log loss"),
    ],
)
def test_parts_are_compared_by_the_loss_if_it_chose_the_epoch(losses: tuple[float, ...], said: str | None) -> None:
    names = ("validation_loss", "validation_lstm_loss", "validation_ngram_loss")
    figures = {**row(0.92, 0.9165, 0.9188), **dict(zip(names, losses, strict=True))}
    found = advice(figures, {"best_by": "loss"})
    assert found is None if said is None else found is not None and found.startswith(said)
    assert str(advice(figures, {"best_by": "accuracy"})).startswith("the LSTM alone (0.9165) does not beat")


def test_a_network_without_a_share_is_pointed_out() -> None:
    found = advice({**row(0.8, 0.81, 0.8), "lstm_share": 0.0}, {})
    assert found is not None
    assert found.startswith("the LSTM has no share in this model")
    constant = advice({**row(0.8, 0.81, 0.8), "lstm_share": 0.0, "validation_auc": 0.5}, {})
    assert constant is not None
    assert constant.startswith("the model gives all texts one probability")


@pytest.mark.parametrize(
    ("config", "remedies"),
    [
        ({}, "word vectors from more text (--unlabelled, --embeddings), or more dropout, or more rows and epochs"),
        ({"unlabelled": ["a"]}, "more dropout, or more rows and epochs"),
        ({"embeddings": "v.txt"}, "more dropout, or more rows and epochs"),
        ({"preset": "best"}, "word vectors from more text (--unlabelled, --embeddings), or more rows"),
        ({"preset": "best", "unlabelled": ["a"]}, "more rows"),
    ],
)
def test_what_a_run_has_is_not_proposed_to_it(config: dict[str, Any], remedies: str) -> None:
    found = advice(row(0.79, 0.81, 0.80), config)
    assert found is not None
    assert found.endswith(f": {remedies} may help the LSTM")
