"""lstm-ray config"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from lstm_ray import config as settings
from lstm_ray.cli import console
from lstm_ray.cli.help import Commands
from lstm_ray.errors import ConfigError
from lstm_ray.wording import either

app = Commands(help="Show settings: the schema of job files, and the values that a job file resolves to.")

Command = Annotated[str, typer.Argument(metavar="COMMAND", help=f"{either(settings.COMMANDS)}.")]


def _kind(command: str) -> type[settings.Settings]:
    if command not in settings.COMMANDS:
        raise ConfigError(f"no settings for {command!r}: choose one of {', '.join(settings.COMMANDS)}")
    return settings.COMMANDS[command]


@app.command()
def schema(command: Command) -> None:
    """Print the JSON Schema of a command's job files; each setting has its properties, such as path and may_change.

    Example: lstm-ray config schema train
    """
    console.show_text(json.dumps(settings.job_file_schema(_kind(command)), indent=2) + "\n")


@app.command()
def show(
    command: Command,
    job_file: Annotated[str | None, typer.Option("--config", metavar="FILE", help="YAML job file.")] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar=settings.shown_as(settings.TrainConfig, "preset")["metavar"],
            help="Preset to start from, such as mine:small.",
        ),
    ] = None,
) -> None:
    """Print all settings that result from a job file and a preset, except those that training chooses for the data.

    Example: lstm-ray config show train --preset bilstm
    """
    kind = _kind(command)
    if preset is not None and "preset" not in kind.model_fields:
        raise ConfigError(f"--preset is for train and tune: {command} has no presets")
    options = {} if preset is None else {"preset": preset}
    console.show_text(settings.to_yaml(settings.resolve(kind, options, job_file)))
