"""lstm-ray predict"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

import lstm_ray
from lstm_ray.cli import console
from lstm_ray.cli.options import takes_settings
from lstm_ray.config import BundleSettings, DecisionSettings, PrecisionSettings, ScoreConfig, check_complete
from lstm_ray.errors import BundleError, ConfigError, InputError
from lstm_ray.wording import command_line, counted

if TYPE_CHECKING:
    from lstm_ray.api.model import Explanation, Prediction

_MOST_BYTES = 256 << 20  # of stdin or a file: both are read into memory
_MOST_WORDS = 10  # shown for a text; --json lists all


class PredictConfig(PrecisionSettings, DecisionSettings, BundleSettings):
    """The settings of `predict`."""


@takes_settings(PredictConfig, job_file=None)
def predict(
    config: PredictConfig,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="Texts to score; - reads them from stdin, one per line. Write -- before a text that begins with -.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", metavar="FILE", help="File with the texts to score, one per line.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per text.")] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show how much each word weighs: how far the log odds of positive fall without it. Slow: a text is "
            "scored again without each of its distinct words.",
        ),
    ] = False,
) -> None:
    """Score a few texts without Ray, and without TensorFlow (unless the network is your own).

    Example: lstm-ray predict --model runs/first/model "Not bad at all" "I want my money back"
    """
    check_complete(config)
    if explain and texts and len(texts) > 1 and texts[0].isdecimal():
        raise ConfigError(
            f"--explain takes no number, and {texts[0]} would be a text: leave it out (--json lists all words), or "
            "pass the texts on stdin, with -"
        )
    given = _given(texts or [], file, config.model)
    loaded = lstm_ray.load(config.model, threshold=config.threshold, unsure=config.unsure, precision=config.precision)
    if loaded.note:
        console.say(loaded.note)
    explained = loaded.explain(given) if explain else [None] * len(given)
    predictions = [one.prediction for one in explained if one is not None] or loaded.predict(given)
    texts_given = (text.decode(errors="replace") for text in given)
    for text, scored, found in zip(texts_given, predictions, explained, strict=True):
        if as_json:
            console.show_text(json.dumps(_as_json(text, scored, found), ensure_ascii=False) + "\n")
        else:
            _show(text, scored, found)
    if config.threshold is None and any(
        one.probability is not None and (one.probability > 0.5) != (one.probability > loaded.threshold)
        for one in predictions
    ):
        console.say(f"note: the model's threshold is {loaded.threshold:g}, not 0.5: only above it is a text positive")
    if unreadable := [text for text, scored in zip(given, predictions, strict=True) if scored.error == "invalid_utf8"]:
        _note_encoding(unreadable)


def _note_encoding(texts: list[bytes]) -> None:
    """Says what the first of some texts that are not UTF-8 may be, and what makes UTF-8 of them."""
    from lstm_ray.text.encodings import readings

    try:
        texts[0].decode()
    except UnicodeDecodeError as error:
        found = readings(texts[0], error.start)
        console.say(
            f"note: {counted(len(texts), 'text')} not in UTF-8, such as {found}: "
            "iconv -f ENCODING -t utf-8 converts a file"
        )


def _as_json(text: str, scored: Prediction, explained: Explanation | None) -> dict[str, Any]:
    shown = {"text": text, "sentiment": scored.label, "probability": scored.probability, "error": scored.error}
    return shown if explained is None else {**shown, "words": [asdict(word) for word in explained.words]}


def _show(text: str, scored: Prediction, explained: Explanation | None) -> None:
    if scored.error is not None:
        console.show_line(f"  -     {'(' + scored.error + ')':9} {text}")
        return
    begin = f"{scored.probability:.4f}  {scored.label:9} "
    if explained is None:
        console.show_line(begin + text)
        return
    weights = {span: word.weight for word in explained.words for span in word.spans}
    console.show_weighed(begin, text, weights)
    for word in explained.words[:_MOST_WORDS]:
        console.show_line(f"{word.weight:+9.2f}  {word.word}")


def _given(texts: list[str], file: str | None, model: str) -> list[bytes]:
    """Returns the texts to score, as bytes.

    Raises:
        ConfigError: No text is given, or both texts and a file, or a text is the name of a file.
        InputError: The file cannot be read.
    """
    if bool(texts) == (file is not None):
        raise ConfigError(
            "give either TEXT or --file" if texts else "TEXT is missing: give one, or --file FILE, or - for stdin"
        )
    from lstm_ray.storage.formats import PARQUET, conversion, lines_of

    if texts == ["-"]:
        content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise InputError(
                f"stdin has more than {_MOST_BYTES >> 20} MiB, too much for predict: convert it to Parquet with "
                "lstm-ray data convert, and use lstm-ray score"
            )
        return lines_of(content, "stdin")
    if file is not None:
        from lstm_ray import storage

        content = storage.read_bytes(file, _MOST_BYTES)
        if content.startswith(PARQUET):
            raise ConfigError(f"--file {file} is Parquet: {_score_line(file, model)}")
        if (remedy := conversion(file)) is not None:
            raise ConfigError(f"--file {file} does not have one text per line: {remedy}, for lstm-ray score")
        return lines_of(content, f"--file {file}")
    for text in texts:
        if os.path.isfile(text):
            lines = command_line("predict", "--model", model, "--file", text)
            remedy = _score_line(text, model) if text.endswith(".parquet") else f"{lines} scores its lines"
            raise ConfigError(f"{text} is a file: {remedy}; to score the name itself, pass it on stdin, with -")
    return [text.encode(errors="surrogateescape") for text in texts]  # the bytes that the shell passed


def _score_line(file: str, model: str) -> str:
    """Returns the command that scores a Parquet file."""
    from lstm_ray.model.bundle import read_bundle
    from lstm_ray.model.trained_columns import options_of_training

    options: list[str] = []
    with contextlib.suppress(InputError, BundleError):  # then scoring says what is wrong
        options = options_of_training(ScoreConfig(inputs=(file,)), read_bundle(model))
    return f"{command_line('score', file, '--model', model, '--output', 'SCORED', *options)} scores its rows"
