"""lstm-ray cluster"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_ray.cli import console
from lstm_ray.cli.options import takes_settings
from lstm_ray.cluster.settings import ClusterConfig
from lstm_ray.errors import InputError
from lstm_ray.wording import counted

if TYPE_CHECKING:
    from lstm_ray.cluster.validate import Report

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


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML for Ray's launcher or for KubeRay.")],
    crds: Annotated[
        Path | None,
        typer.Option("--crds", metavar="DIR", help="KubeRay's CRDs; else LSTM_RAY_CRDS, else kubectl is asked."),
    ] = None,
) -> None:
    """Check a cluster definition; tells all mistakes, each with its line and a remedy.

    Example: lstm-ray cluster validate aws.yaml
    """
    from lstm_ray.cluster import validate as checks

    report = checks.validate(str(file), None if crds is None else str(crds))
    _tell(report)
    if report.mistakes:
        raise InputError(f"{file}: {counted(len(report.mistakes), 'mistake')}")
    console.show_text(f"{file}: valid\n")


def _tell(report: Report) -> None:
    """Prints mistakes on stdout, for they are the result, and the rest on stderr."""
    for remark in report.mistakes:
        console.show_text(f"{report.path}:{remark.line}: {remark.path}: {remark.finding.message}\n")
    for kind, remarks in (("to do", report.to_do), ("note", report.notes)):
        for remark in remarks:
            console.say(f"{kind}: {report.path}:{remark.line}: {remark.path}: {remark.finding.message}")
