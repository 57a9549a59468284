"""The program accepts the commands in README and the docs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from lstm_ray.cli.app import app

ROOT = Path(__file__).parents[3]
PAGES = (
    "README.md",
    "docs/python.md",
    "docs/training.md",
    "docs/accuracy.md",
    "docs/scoring.md",
    "docs/lstm.md",
    "docs/jobs.md",
    "docs/clusters.md",
    "docs/how-to/watch-a-corpus.md",
)
# At the beginning of a line, of code within one, or of a quoted command that another runs; not `lstm-ray COMMAND`.
_COMMAND = re.compile(r"(?:^ *(?:\$ )?|[`'])lstm-ray +([a-z][^`'\n]+)", re.MULTILINE)


def commands(page: str) -> list[str]:
    """Lists what follows `lstm-ray` in a page: across a backslash at the end of a line, up to wide space or a pipe."""
    text = re.sub(r" *\\\n +", " ", (ROOT / page).read_text(encoding="utf-8"))
    return [re.split(r" {3,}| \| python", found)[0] for found in _COMMAND.findall(text)]


CASES = [(page, command) for page in PAGES for command in commands(page)]


def test_there_are_some_of_each_kind() -> None:
    begins = {" ".join(command.split()[:2]) for _, command in CASES}
    assert {"cluster render", "cluster validate", "cluster up", "cluster down", "submit score.yaml"} <= begins
    assert len(CASES) > 20


@pytest.mark.parametrize(("page", "command"), CASES)
def test_a_command_of_a_page_is_understood(page: str, command: str) -> None:
    group, *_ = command.split()
    # `jobs list | status ID | logs ID [--follow]` is several.
    for choice in command.removeprefix(group).split("|"):
        parse([group, *shlex.split(re.sub(r"[\[\]]", "", choice))])


def parse(words: list[str]) -> None:
    """Parses a command line as the program does, and runs nothing. A page may leave arguments out: `cluster up`."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command)
    while hasattr(command, "commands") and words:
        name, *words = words
        assert name in command.commands, name
        command = command.commands[name]
        context = typer.Context(command, parent=context)
    command.make_parser(context).parse_args(words)  # raises what Typer would tell: an option that there is not
