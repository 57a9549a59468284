"""The `lstm-ray` command and its exit codes.

    0     done
    1, 2  failed; wrong usage or settings         `exit_code` of the errors in errors.py; Typer's 2
    3     done, but input files were set aside    cli/score.py
    130   interrupted                             Typer's; see cli/process.py

An expected error becomes one line on stderr; only `--debug` shows a traceback.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

import lstm_ray
from lstm_ray.api.boundary import options_named
from lstm_ray.cli import (
    calibrate,
    cluster,
    console,
    data,
    demo,
    doctor,
    evaluate,
    export,
    predict,
    score,
    settings,
    submit,
    train,
    tune,
    vectors,
)
from lstm_ray.cli.help import Commands
from lstm_ray.cli.options import Debug, Quiet, Verbose, set_output
from lstm_ray.errors import ConfigError, LstmRayError

app = Commands(
    name="lstm-ray",
    help="Train Keras LSTM sentiment models on Ray Train; score corpora of reviews on Ray Data.",
    pretty_exceptions_enable=False,
    epilog="Begin with: lstm-ray demo",
)
_BEGIN, _TRAIN, _USE, _CLUSTERS = "Begin", "Train", "Use a model", "Clusters"
app.command("demo", rich_help_panel=_BEGIN)(demo.demo)
app.add_typer(data.app, name="data", rich_help_panel=_BEGIN)
app.command("doctor", rich_help_panel=_BEGIN)(doctor.doctor)
app.command("train", rich_help_panel=_TRAIN)(train.train)
app.command("tune", rich_help_panel=_TRAIN)(tune.tune)
app.command("vectors", rich_help_panel=_TRAIN)(vectors.vectors)
app.add_typer(settings.app, name="config", rich_help_panel=_TRAIN)
app.command("score", rich_help_panel=_USE)(score.score)
app.command("evaluate", rich_help_panel=_USE)(evaluate.evaluate)
app.command("calibrate", rich_help_panel=_USE)(calibrate.calibrate)
app.command("predict", rich_help_panel=_USE)(predict.predict)
app.command("export", rich_help_panel=_USE)(export.export)
app.add_typer(cluster.app, name="cluster", rich_help_panel=_CLUSTERS)
app.command("submit", rich_help_panel=_CLUSTERS)(submit.submit)
app.add_typer(submit.app, name="jobs", rich_help_panel=_CLUSTERS)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.show_text(f"lstm-ray {lstm_ray.__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    set_output(quiet=quiet, verbose=verbose, debug=debug)
    context.with_resource(options_named())


def main() -> None:
    """Runs the command line. An expected error becomes one line on stderr and its exit code."""
    try:
        app()
    except LstmRayError as error:
        _show_traceback_if_wanted()
        console.fail(str(error))
        if isinstance(error, ConfigError):
            console.warn(f"see {' '.join(['lstm-ray', *_command(sys.argv[1:])])} --help")
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001  a bug of ours; the user gets one line, and the traceback with --debug
        _show_traceback_if_wanted()
        message = " ".join(str(error).split())
        console.fail(f"unexpected {type(error).__name__}: {message}\nrun it with --debug to see where")
        sys.exit(1)


def _command(arguments: Sequence[str]) -> list[str]:
    """Returns the command that arguments begin with, as words: data imdb --output x -> data, imdb."""
    known, names = typer.main.get_command(app), []
    for word in arguments:
        if word.startswith("-"):
            continue  # --debug, -q, -v
        inner = getattr(known, "commands", {}).get(word)
        if inner is None:
            break
        known = inner
        names.append(word)
    return names


def _show_traceback_if_wanted() -> None:
    if os.environ.get("LSTM_RAY_DEBUG"):
        console.warn(traceback.format_exc().rstrip())
