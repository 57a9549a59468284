"""lstm-ray cluster"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstm_ray.cli import console
from lstm_ray.cli.options import takes_settings
from lstm_ray.cluster.settings import ClusterConfig

app = typer.Typer(no_args_is_help=True, help="Define, start and look at a Ray cluster: where to run.")


@app.command()
@takes_settings(ClusterConfig)
def render(
    config: ClusterConfig,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write it here.", rich_help_panel="Input and output"),
    ] = None,
) -> None:
    """Print a complete cluster definition, each line that you may want to change with a comment.

    Example: lstm-ray cluster render --provider aws --workers 0:8 --spot --output aws.yaml
    """
    from lstm_ray.cluster.render import render as definition

    text = definition(config)
    if output is None:
        console.show_text(text)
        return
    from lstm_ray import storage

    storage.write_bytes(str(output), text.encode())
    console.say(f"wrote {output}")
