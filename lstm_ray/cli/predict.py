"""lstm-ray predict"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

import lstm_ray
from lstm_ray.api.boundary import options_named
from lstm_ray.cli import console


def predict(
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Texts to score; - reads them from stdin, one a line.")
    ],
    model: Annotated[
        str, typer.Option("--model", metavar="DIR", help="Model bundle, as train writes to OUTPUT/model.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a text.")] = False,
) -> None:
    """Score a few texts without Ray, and without TensorFlow (unless the network is your own).

    Example: lstm-ray predict --model runs/first/model "Not bad at all" "I want my money back"
    """
    if texts == ["-"]:
        given = sys.stdin.buffer.read().removesuffix(b"\n").split(b"\n")
    else:
        given = [text.encode(errors="surrogateescape") for text in texts]  # the bytes that the shell passed
    with options_named():
        loaded = lstm_ray.load(model)
        if loaded.note:
            console.say(loaded.note)
        predictions = loaded.predict(given)
    for text, scored in zip((text.decode(errors="replace") for text in given), predictions, strict=True):
        if as_json:
            shown = {"text": text, "sentiment": scored.label, "probability": scored.probability, "error": scored.error}
            console.show_text(json.dumps(shown, ensure_ascii=False) + "\n")
        elif scored.error is not None:
            console.show_text(f"  -     {'(' + scored.error + ')':9} {text}\n")
        else:
            console.show_text(f"{scored.probability:.4f}  {scored.label:9} {text}\n")
