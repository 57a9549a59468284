"""lstm-ray predict"""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from lstm_ray.cli import console
from lstm_ray.errors import InputError

_MOST_BYTES = 256 << 20  # of stdin, which is read whole


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
    from lstm_ray.model.bundle import read_bundle
    from lstm_ray.score.scorer import Scorer, pick_engine, score_texts

    if texts == ["-"]:
        content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise InputError(
                f"stdin has more than {_MOST_BYTES >> 20} MiB, too much for predict: make Parquet of it with "
                "lstm-ray data convert, and score that"
            )
        given = content.removesuffix(b"\n").split(b"\n")
    else:
        given = [text.encode(errors="surrogateescape") for text in texts]  # the bytes that the shell passed
    bundle = read_bundle(model)
    if note := bundle.note():
        console.say(note)
    engine = pick_engine("auto", False, bundle.model.network)  # a GPU takes longer to start than a few texts to score
    with Scorer(bundle, engine) as scorer:
        rows = score_texts(scorer, given)
    for scored in rows:
        if as_json:
            console.show_text(json.dumps(scored, ensure_ascii=False) + "\n")
        elif scored["error"] is not None:
            console.show_line(f"  -     {'(' + str(scored['error']) + ')':9} {scored['text']}")
        else:
            console.show_line(f"{scored['probability']:.4f}  {scored['sentiment']:9} {scored['text']}")
