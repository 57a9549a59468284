"""lstm-ray cluster"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lstm_ray.cli import bars, console
from lstm_ray.cli.command_line import parse_command_line
from lstm_ray.cli.help import Commands
from lstm_ray.cli.options import takes_settings
from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.wording import counted, quoted

if TYPE_CHECKING:
    from lstm_ray.cluster.check.validate import Report
    from lstm_ray.cluster.status import Status

app = Commands(help="Define, start and inspect a Ray cluster.")


@app.command()
@takes_settings(ClusterConfig)
def render(
    config: ClusterConfig,
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write the definition to, instead of printing it.",
            rich_help_panel="Input and output",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file.", rich_help_panel="Input and output")
    ] = False,
) -> None:
    """Print a complete cluster definition, with a comment on each line that you may want to change.

    Example: lstm-ray cluster render --provider aws --workers 0:8 --spot --output aws.yaml
    """
    from lstm_ray.cluster.definition import render as definitions

    text = definitions.render(config, parse=functools.partial(parse_command_line, context.find_root().command))
    if output is None:
        console.show_text(text)
    else:
        definitions.write(text, output, overwrite=overwrite)
        console.say(f"wrote {output}")


@app.command()
def validate(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML for Ray's launcher or for KubeRay.")],
    crds: Annotated[
        Path | None,
        typer.Option(
            "--crds",
            metavar="DIR",
            help="Directory of KubeRay's CRDs; by default $LSTM_RAY_CRDS, or those of kubectl's cluster.",
        ),
    ] = None,
    server: Annotated[
        bool,
        typer.Option(
            "--server", help="Let kubectl's Kubernetes cluster check the file too, without creating anything."
        ),
    ] = False,
) -> None:
    """Check a cluster definition, and report every mistake with its line and a remedy.

    Exit code 0 if no mistake was found, 1 otherwise.

    Example: lstm-ray cluster validate aws.yaml
    """
    from lstm_ray.cluster.check import validate as checks

    parse = functools.partial(parse_command_line, context.find_root().command)
    report = checks.validate(str(file), None if crds is None else str(crds), parse, on_server=server)
    _show_remarks(report)
    if report.mistakes:
        raise InputError(f"{file}: {counted(len(report.mistakes), 'mistake')}")
    verdict = "no mistakes" if report.is_complete else "not fully checked, no mistakes found"
    if report.to_do:
        verdict += f", but {counted(len(report.to_do), 'thing')} to do before it can be used"
    elif report.is_complete:
        verdict = "valid"
    console.show_line(f"{file}: {verdict}")
    if not report.is_complete:
        console.say(
            "for a full check, pass KubeRay's CRDs with --crds DIR, or let your Kubernetes cluster check with --server"
        )


def _show_remarks(report: Report) -> None:
    """Prints the mistakes, which are the result, on stdout, and the rest on stderr."""
    for remark in report.mistakes:
        console.show_line(f"{report.path}:{remark.line}: {remark.path}: {remark.finding.message}")
    for kind, remarks in (("to do", report.to_do), ("note", report.notes)):
        for remark in remarks:
            console.warn(f"{kind}: {report.path}:{remark.line}: {remark.path}: {remark.finding.message}")


DefinitionFile = Annotated[Path, typer.Argument(metavar="FILE", help="YAML for Ray's launcher.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


@app.command()
def up(file: DefinitionFile, yes: Yes = False) -> None:
    """Start the cluster of a definition, or update it if it is running.

    Example: lstm-ray cluster up aws.yaml
    """
    from lstm_ray.cluster import launch

    path = quoted(str(file))
    with bars.progress(f"what was started keeps running: stop it with lstm-ray cluster down {path}"):
        launch.up(str(file), yes)
    console.show_table(
        "Cluster is up",
        [
            ("dashboard and jobs", f"ray dashboard {path}    # forwards http://127.0.0.1:8265 to it, through SSH"),
            ("nodes", f"ray exec {path} 'lstm-ray cluster status'"),
            ("stop it", f"lstm-ray cluster down {path}"),
        ],
    )


@app.command()
def down(file: DefinitionFile, yes: Yes = False) -> None:
    """Stop the cluster of a definition. Its storage is kept.

    Example: lstm-ray cluster down aws.yaml
    """
    from lstm_ray.cluster import launch

    with bars.progress("parts of it may still be running: the same command stops them"):
        launch.down(str(file), yes, lambda question: typer.confirm(question, abort=True, err=True))
    console.show_line(f"{file}: the cluster is down")


@app.command()
def status(
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="auto|HOST:PORT",
            help="Address of the Ray cluster to show: auto for this machine's, HOST:PORT (Ray's or the dashboard's), "
            "or ray://HOST:PORT.",
        ),
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a running cluster's nodes, its free resources, and the workers that a run would get.

    Example: lstm-ray cluster status --address auto
    """
    if address == "local":
        raise ConfigError("--address local would start a new Ray instance: give the address of a running one, or auto")
    from lstm_ray.cluster.status import read_status

    found = read_status(address, console.say)
    if as_json:
        more = {"train_workers": found.train_workers, "score_actors": found.score_actors}
        console.show_text(json.dumps(asdict(found) | more) + "\n")
    else:
        _show_status(found)


def _show_status(found: Status) -> None:
    lost = f", {found.lost} lost since it started" if found.lost else ""
    rows = [("nodes", f"{len(found.nodes)}{lost}")]
    for node in found.nodes:
        gpus = f", {counted(round(node.gpus), 'GPU')}" if node.gpus else ""
        role = "head" if node.is_head else "worker"
        rows.append((f"  {node.address}", f"{role}: {counted(node.cpus, 'core')}{gpus}, {node.memory_gib:.1f} GiB"))
    cpus, gpus_there = sum(node.cpus for node in found.nodes), sum(node.gpus for node in found.nodes)
    rows.append(("cores", f"{found.free_cpus:g} of {cpus:g} free"))
    if gpus_there:
        rows.append(("GPUs", f"{found.free_gpus:g} of {gpus_there:g} free"))
    memory = sum(node.memory_gib for node in found.nodes)
    rows.append(("memory", f"{found.free_memory_gib:.1f} of {memory:.1f} GiB free"))
    gpu = {"train": " --gpus-per-worker 1", "score": " --gpus-per-actor 1"} if found.gpus_each else {}
    for command, option, number in (
        ("train", "--workers", found.train_workers),
        ("score", "--actors", found.score_actors),
    ):
        rows.append((command, f"up to {option} {number}{gpu.get(command, '')}" if number else "no free resources"))
    console.show_table("Cluster", rows)
