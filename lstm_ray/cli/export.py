"""lstm-ray export"""

from __future__ import annotations

from typing import Annotated

import typer

import lstm_ray
from lstm_ray.cli import console


def export(
    model: Annotated[
        str,
        typer.Option("--model", metavar="DIR", help="Directory of the model bundle, such as OUTPUT/model of train."),
    ],
    kind: Annotated[
        str, typer.Option("--format", metavar="onnx|savedmodel", help="ONNX, or SavedModel for TensorFlow Serving.")
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="DIR", help="New or empty directory for the files.")],
) -> None:
    """Export a model, from token ids to probabilities, for other runtimes; export.json describes how to get the ids.

    Example: lstm-ray export --model runs/first/model --format onnx --output exported
    """
    from lstm_ray import storage

    made = lstm_ray.export(model, format=kind, output=output)
    rows = [("model", storage.join(made.output, made.model))]
    for name in ("input", "output"):
        tensor = made.description[name]
        rows.append((name, f"{tensor['name']}: {tensor['type']}[{', '.join(map(str, tensor['shape']))}]"))
    rows.append(("vocabulary", storage.join(made.output, "vocabulary.parquet")))
    rows.append(("how to make the ids", storage.join(made.output, "export.json")))
    console.show_table("Exported", rows)
    if made.note:
        console.say(made.note)
