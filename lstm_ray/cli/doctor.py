"""lstm-ray doctor"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lstm_ray.cli import console

if TYPE_CHECKING:
    from lstm_ray.doctor.verdicts import Verdict


def doctor(
    address: Annotated[
        str | None,
        typer.Option(
            "--address", metavar="auto|HOST:PORT", help="Examine the nodes of this Ray cluster, not this machine."
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="PATH", help="Write to this directory or URI and read back, on every node."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="DIR", help="Check whether cuDNN can run this bundle on a GPU.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config", metavar="FILE", help="Check whether cuDNN can run the network or bundle of this job file."
        ),
    ] = None,
) -> None:
    """Examine this machine or a cluster, and report what would make a run fail.

    Exit code 1 if there is a problem.

    Example: lstm-ray doctor --address auto --storage s3://bucket/reviews
    """
    from lstm_ray.doctor import examine

    verdicts = examine.examine(address, storage, model, config)
    width = console.width() - 2 - max(len(verdict.subject) for verdict in verdicts)
    rows = []
    for verdict in verdicts:
        first, *more = _lines(verdict, width)
        rows += [(verdict.subject, first), *(("", line) for line in more)]
    console.show_table("Examined", rows)
    if any(verdict.level == "problem" for verdict in verdicts):
        console.fail("not ready: fix the lines marked 'problem'")
        raise typer.Exit(1)
    console.say("ready: no problems found")


def _lines(verdict: Verdict, width: int) -> list[str]:
    """Returns level and state, and the remedy below, wrapped to the width; longer words are not broken."""
    first, rest = f"{verdict.level:8}", " " * 8
    layout: dict[str, Any] = {"width": max(width, 40), "break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(verdict.state, initial_indent=first, subsequent_indent=rest, **layout)
    return lines + textwrap.wrap(verdict.remedy, initial_indent=f"{rest}-> ", subsequent_indent=f"{rest}   ", **layout)
