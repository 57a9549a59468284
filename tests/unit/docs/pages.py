"""Reads the pages of the documentation as programs: the files they write, the commands and the Python they run.

What a block is, its fence says:

    ```sh                  commands; tests run them, in a directory with what the README's commands leave behind
    ```python              code; the blocks of a page are one program
    ```text                what the block before prints, shortened: numbers may differ, `...` stands for anything
    ```yaml, ```python     a file, if the first line is a comment with its name: "# first.yaml"; also ```js

A word after the language says where a block runs:

    slow, ray                second tier; `ray` starts one
    head                     second tier, on a Ray that runs already
    host                     second tier, on a machine of its own (tests/cluster/hosts.py), with Ray's usual ports
    s3, aws, mlflow, npm, int8
                             second tier, where the machine has what it needs (`NEEDS` in test_pages.py)
    elsewhere=REASON         nowhere, for a reason of `ELSEWHERE`: its commands are only parsed

`exit=3` is the exit code of its last command. Blocks that are indented instead of fenced are only parsed as well.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).parents[3]
PAGES = ("README.md", "CONTRIBUTING.md", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("docs/**/*.md"))))

FIRST = "README.md"
TUTORIAL = "docs/tutorials/first-model.md"
FROM_NOTHING = (FIRST, TUTORIAL)

ELSEWHERE = {
    "": "takes hours, or needs data that the project does not have",
    "example": "an example of `--help`, whose files do not exist",
    "checkout": "sets up a checkout, or runs these very tests",
    "download": "downloads",
    "cloud": "starts machines in a cloud",
    "kubernetes": "needs Kubernetes, or builds an image for it",
    "ports": "takes ports that another program on the machine may have",
    "cluster": "needs several machines; tests/cluster/test_up.py runs the commands of the tutorial",
}

_FENCE = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:#|//) ([\w.-]+\.(?:py|yaml|csv|mjs))\n")
_FOR_A_SHELL = re.compile(r"[|<>$;&]")
_LIMIT_S = 300


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: sh, python, js, yaml or text.
        words: The words after it, each with its value: {"exit": "3"}.
        text: Its lines.
        output: The lines that it prints, as the page has them.
    """

    language: str
    words: Mapping[str, str]
    text: str
    output: str = ""

    @property
    def file(self) -> str | None:
        """The name of the file whose content the block is."""
        found = _FILE.match(self.text)
        return found[1] if found else None

    @property
    def exit_code(self) -> int:
        """The exit code of its last command."""
        return int(self.words.get("exit", 0))


def read(page: str) -> str:
    """Returns the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Lists the fenced blocks of a page, each with what it prints."""
    found: list[Block] = []
    for indent, language, words, text in _FENCE.findall(read(page)):
        values = dict(word.partition("=")[::2] for word in words.split())
        block = Block(language, values, textwrap.dedent(text) if indent else text)
        if language == "text" and found:
            found[-1] = Block(found[-1].language, found[-1].words, found[-1].text, found[-1].output + block.text)
        else:
            found.append(block)
    return found


def run(
    page: str,
    namespace: dict[str, Any],
    skip: frozenset[str],
    environment: Mapping[str, str],
    instead: tuple[str, str] = ("", ""),
) -> None:
    """Runs a page in the current directory.

    Args:
        page: The page.
        namespace: Variables of its Python.
        skip: Blocks with one of these words are not run.
        environment: Variables of its shells.
        instead: A name on the page, and what to run instead.
    """
    for block in blocks(page):
        if skip.isdisjoint(block.words):
            run_block(page, replace(block, text=block.text.replace(*instead)), namespace, environment)


def run_block(page: str, block: Block, namespace: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Runs a block, or writes its file, and compares what it prints with the page."""
    if block.file is not None:
        Path(block.file).write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(block.text, page, "exec"), namespace)
        _compare(page, block, out.getvalue())
    elif block.language == "sh":
        commands = lines_of(block.text)
        plain = all(line.startswith("lstm-ray ") and not _FOR_A_SHELL.search(line) for line in commands)
        code, printed = _run_here(commands) if plain else _run_shell(block.text, environment)
        assert code == block.exit_code, f"{page}: exit code {code}\n{block.text}\n{printed}"
        _compare(page, block, printed)


def lines_of(text: str) -> list[str]:
    """Lists the commands of a block, each on one line, without comments."""
    joined = re.sub(r" *\\\n *", " ", text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def _run_here(commands: list[str]) -> tuple[int, str]:
    """Runs `lstm-ray` in this process, which has TensorFlow already; returns the last exit code, and the output."""
    from lstm_ray.cli.app import main

    code, printed = 0, io.StringIO()
    for command in commands:
        assert code == 0, printed.getvalue()
        words = shlex.split(command, comments=True)
        with (
            mock.patch.object(sys, "argv", words),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
    return code, printed.getvalue()


def _run_shell(text: str, environment: Mapping[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    return done.returncode, done.stdout


def command_on_path(directory: Path) -> dict[str, str]:
    """Writes `lstm-ray`, `python` and `ray` into a directory; returns the variables with which a shell finds them."""
    for name, arguments in (("lstm-ray", "-m lstm_ray"), ("python", ""), ("ray", "-m ray.scripts.scripts")):
        script = directory / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {arguments} "$@"\n', encoding="utf-8")
        script.chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}


def _compare(page: str, block: Block, printed: str) -> None:
    lines = printed.splitlines()
    for line in block.output.splitlines():
        pattern = as_pattern(line)
        assert any(re.search(pattern, each) for each in lines), f"{page} says: {line}\nprinted:\n{printed}"


def as_pattern(line: str) -> str:
    """Returns the pattern for a line: any number and hash, either sentiment, any text for `...`, any white space."""
    pattern = re.escape(" ".join(line.split()))
    pattern = re.sub(
        r"[0-9a-f]{64}|\d(?:[\d,]|\\\.(?=\d))*",
        lambda found: "[0-9a-f]{64}" if len(found[0]) == 64 else r"[\d,.e+-]+",
        pattern,
    )
    pattern = re.sub(r"positive|negative", "(?:positive|negative)", pattern)
    return pattern.replace(r"\.\.\.", ".*").replace(r"\ ", r"\s+")


def commands(page: str) -> Iterator[str]:
    """Yields the arguments of each `lstm-ray` in a page: in its blocks, and in code within sentences."""
    indented = _FENCE.sub(lambda found: textwrap.indent(textwrap.dedent(found[4]), "    "), read(page))
    text = re.sub(r" *\\\n +", " ", indented)
    # At the beginning of a line of code, or of a quoted command that another runs; not `lstm-ray COMMAND`.
    for found in re.findall(r"(?:^ {4,}(?:\$ )?|[`'])lstm-ray +([a-z][^`'\n]+)", text, re.MULTILINE):
        yield re.split(r" {3,}| \| python| > | &$", found)[0]
