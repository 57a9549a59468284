"""Results of each part of a model with n-grams alone. The n-grams are the baseline that the LSTM has to beat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def part_figures(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields name, figure and meaning of each part's results in an epoch; nothing without n-grams or validation.

    Args:
        row: The epoch's row of the history.
    """
    if row.get("lstm_share") is None:
        return
    for name, key, meaning in (
        ("LSTM alone", "lstm", "accuracy without the n-grams"),
        ("n-grams alone", "ngram", "accuracy without the LSTM: the baseline, logistic regression"),
    ):
        yield name, f"{row[f'validation_{key}_accuracy']:.4f}", meaning
        yield (
            f"{name}, log loss",
            f"{row[f'validation_{key}_loss']:.4f}",
            "mean -ln of the probability of the true label",
        )
    yield "LSTM's share", f"{row['lstm_share']:.0%}", "of the mixed logits, fitted on the validation rows"


def advice(row: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Returns what to try if the LSTM, or the mix of both parts, is no better than the n-grams alone.

    Args:
        row: The best epoch's row of the history.
        config: The run's settings: log loss compares the parts if it chose the epoch, else accuracy; remedies that they
            already contain are not proposed.
    """
    if row.get("lstm_share") is None:
        return None
    has_vectors = config.get("unlabelled") or config.get("embeddings")
    remedies = [] if has_vectors else ["word vectors from more text (--unlabelled, --embeddings)"]
    # The preset `best` has dropout, and epochs that fit the data.
    remedies += ["more rows"] if config.get("preset") == "best" else ["more dropout", "more rows and epochs"]
    to_try = f"{', or '.join(remedies)} may help the LSTM"
    # A row more or less makes another accuracy, long before the loss is another: accuracy only if the user goes by it.
    is_loss = config.get("best_by") == "loss"
    measure, sign = ("loss", -1) if is_loss else ("accuracy", 1)
    mixed, lstm, ngrams = (row[f"validation_{part}{measure}"] for part in ("", "lstm_", "ngram_"))
    shown_mixed, shown_lstm, shown_ngrams = (
        f"{'log loss ' if is_loss else ''}{one:.4f}" for one in (mixed, lstm, ngrams)
    )
    baseline = f"the n-grams alone ({shown_ngrams})"
    if row["lstm_share"] == 0 and row.get("validation_auc") == 0.5:  # the n-grams have no share either
        return (
            "the model gives all texts one probability, because neither the LSTM nor the n-grams predict the "
            "validation rows: train on more rows"
        )
    if row["lstm_share"] == 0:
        return f"the LSTM has no share in this model: on the validation rows it does not improve {baseline}: {to_try}"
    if sign * mixed <= sign * ngrams:
        return f"with the LSTM ({shown_mixed}) the model is no better than {baseline}: {to_try}"
    if sign * lstm <= sign * ngrams:
        return f"the LSTM alone ({shown_lstm}) does not beat {baseline}: {to_try}"
    return None
