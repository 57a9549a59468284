"""lstm-ray doctor"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_ray.cli import console

if TYPE_CHECKING:
    from lstm_ray.doctor import Verdict


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
        str | None, typer.Option("--config", metavar="FILE", help="Say the same of a job file's network or bundle.")
    ] = None,
) -> None:
    """Examine this machine or a cluster, and say what would stand in a run's way.

    Exit code 1 if something would.

    Example: lstm-ray doctor --address auto --storage s3://bucket/reviews
    """
    from lstm_ray import doctor as ward

    report = ward.examine(address, storage, model, config)
    room = console.width() - 2 - max(len(finding.subject) for finding in report.findings)
    rows = []
    for finding in report.findings:
        first, *more = _lines(finding, room)
        rows += [(finding.subject, first), *(("", line) for line in more)]
    console.show_table("Examined", rows)
    if report.has_problem:
        console.fail("a run would fail here: see the lines that say problem")
        raise typer.Exit(1)
    console.say("nothing stands in the way of a run")


def _lines(finding: Verdict, room: int) -> list[str]:
    """Returns the verdict and the state, and the remedy below it, in lines that fit as far as their words do."""
    first, rest = f"{finding.verdict:8}", " " * 8
    layout: dict[str, Any] = {"width": max(room, 40), "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(finding.state, initial_indent=first, subsequent_indent=rest, **layout)
    return lines + textwrap.wrap(finding.remedy, initial_indent=f"{rest}-> ", subsequent_indent=f"{rest}   ", **layout)
