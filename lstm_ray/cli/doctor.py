"""lstm-ray doctor"""

from __future__ import annotations

from typing import Annotated

import typer

from lstm_ray.cli import console


def doctor(
    address: Annotated[
        str | None,
        typer.Option("--address", metavar="auto|HOST:PORT", help="Examine the nodes of this Ray; else this machine."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="PATH", help="Write to this directory or URI and read back, on every node."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="DIR", help="Say whether cuDNN can run this bundle on a GPU.")
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", metavar="FILE", help="Say the same of a training job file.")
    ] = None,
) -> None:
    """Examine this machine or a cluster, and say what would stand in a run's way.

    Exit code 1 if something would.

    Example: lstm-ray doctor --address auto --storage s3://bucket/reviews
    """
    from lstm_ray.cluster import doctor as ward

    report = ward.examine(address, storage, model, config)
    rows = []
    for finding in report.findings:
        remedy = f"  ->  {finding.remedy}" if finding.remedy else ""
        rows.append((finding.subject, f"{finding.verdict:8}{finding.state}{remedy}"))
    console.show_table("Examined", rows)
    if report.has_problem:
        console.fail("a run would fail here: see the lines that say problem")
        raise typer.Exit(1)
    console.say("nothing stands in the way of a run")
