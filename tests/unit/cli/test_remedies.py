"""Every remedy that a message names exists: the options are those of a command that can print it, the commands parse.

Whether a remedy helps is tested where its message is; that no message names what is not there, here, for all of them.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import lstm_ray
from lstm_ray.cli.app import app

PACKAGE = Path(lstm_ray.__file__).parent
_OPTION = re.compile(r"(?<![\w/.-])--(?!no-(?:0|$))[a-z][a-z0-9-]*(?![\w-])")  # not --no- before a name filled in
_COMMAND = re.compile(r"lstm-ray ((?:[a-z]+ ?)+)")
_VALUE = "0"  # stands for what an f-string fills in

# Where a message comes from says which commands can print it; elsewhere any may.
ROOMS = {
    "datasets/convert/next_step.py": ("train", "score"),
    "datasets/convert": ("data convert",),
    "datasets/imdb.py": ("data imdb",),
    "datasets/split.py": ("data split",),
    "datasets/files.py": ("data convert", "data imdb", "data demo", "data split"),
    "datasets": ("train", "evaluate", "tune", "vectors", "data split"),
    "score": ("score",),
    "evaluate": ("evaluate",),
    "vectors": ("vectors",),
    "train": ("train", "tune"),
    "tune": ("tune",),
    "export": ("export",),
    "jobs": ("submit", "jobs list", "jobs status", "jobs logs", "jobs stop"),
    "jobs/package.py": ("submit", "train", "score", "evaluate", "tune"),
    "cluster/definition": ("cluster render",),
    "cluster/status.py": ("cluster status",),
    "config/score.py": ("score",),
    "config/evaluate.py": ("evaluate",),
    "config/train": ("train", "tune"),
    "config/data.py": ("data convert", "data split"),
    "config/tune.py": ("tune",),
    "config/vectors.py": ("vectors", "train", "tune"),
    "cli/data.py": ("data imdb", "data demo", "data convert", "data split", "train", "evaluate"),
    "cli/predict.py": ("predict", "score", "data convert"),
}
# Options of other programs: kubectl, ray, docker, nvidia-smi.
OTHERS = {
    "cluster/check/kubernetes.py": {"--raw", "--validate", "--filename", "--request-timeout"},
    "cluster/check/launcher_rules.py": {"--autoscaling-config", "--port", "--head"},
    "cluster/check/ray_files.py": {"--log-style", "--log-color"},
    "jobs/client.py": {"--head"},
    "cluster/launch.py": {"--filename", "--watch", "--login"},
    "doctor/facts.py": {"--query-gpu"},
    "doctor/verdicts.py": {"--shm-size"},
    "runtime/addresses.py": {"--ray-client-server-port"},
    "runtime/ray_internals.py": {"--autoscaling-config", "--gcs-address", "--labels"},
}


def _leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path), command


PROGRAM: Any = typer.main.get_command(app)
COMMANDS = dict(_leaves(PROGRAM))
OPTIONS = {
    path: {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {"--help", "--version"}
    for path, command in COMMANDS.items()
}


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the texts of a module that are no docstrings, each with its line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) else ():  # docstrings, and those of constants
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant):
                inside.add(one.value)
        if isinstance(node, ast.JoinedStr):
            inside.update(one for one in ast.walk(node) if isinstance(one, ast.Constant))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(one.value) if isinstance(one, ast.Constant) else _VALUE for one in node.values)
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inside:
            yield node.lineno, node.value


MODULES = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py"))
NAMED = [
    (module, line, text)
    for module in MODULES
    for line, text in _texts(PACKAGE / module)
    if _OPTION.search(text) or _COMMAND.search(text)
]


def _commands_of(module: str) -> tuple[str, ...]:
    rooms = [room for room in ROOMS if module == room or module.startswith(f"{room}/")]
    return ROOMS[max(rooms, key=len)] if rooms else tuple(COMMANDS)


def test_there_are_many_of_them() -> None:
    assert len(NAMED) > 150
    assert len(list(_calls())) > 15
    assert all((PACKAGE / room).exists() for room in ROOMS)


@pytest.mark.parametrize("module", sorted({module for module, _, _ in NAMED}))
def test_the_options_of_a_message_are_those_of_its_command(module: str) -> None:
    unknown = []
    for line, text in ((line, text) for named, line, text in NAMED if named == module):
        outside = re.sub(r"`[^`]*`", "", text)  # a command in backquotes is checked below
        path = _COMMAND.search(outside)
        others = tuple(known for known in COMMANDS if path and path[1].startswith(known))
        known = set().union(*(OPTIONS[name] for name in (*_commands_of(module), *others)))
        unknown += [
            f"{module}:{line}: {option}"
            for option in _OPTION.findall(outside)
            if option not in known | OTHERS.get(module, set())
        ]
    assert not unknown


@pytest.mark.parametrize(
    ("module", "line", "command"),
    [
        (module, line, found)
        for module, line, text in NAMED
        for found in re.findall(r"`lstm-ray ([^`]*)`", text)
        if not found.startswith(_VALUE)
    ],
)
def test_a_command_in_backquotes_is_understood(module: str, line: int, command: str) -> None:
    words = shlex.split(command)
    inner: Any = PROGRAM
    context = typer.Context(inner)
    while hasattr(inner, "commands") and words:
        name, *words = words
        assert name in inner.commands, f"{module}:{line}: {name}"
        inner = inner.commands[name]
        context = typer.Context(inner, parent=context)
    inner.make_parser(context).parse_args(words)


@pytest.mark.parametrize(
    ("module", "line", "words"),
    [(module, line, found) for module, line, text in NAMED for found in _COMMAND.findall(re.sub(r"`[^`]*`", "", text))],
)
def test_a_command_in_a_sentence_exists(module: str, line: int, words: str) -> None:
    inner: Any = PROGRAM
    for name in words.split():
        if not hasattr(inner, "commands"):
            return
        if name not in inner.commands:
            assert inner is not PROGRAM or not _looks_like_command(name), f"{module}:{line}: lstm-ray {words}"
            return
        inner = inner.commands[name]


def _looks_like_command(word: str) -> bool:
    """Returns whether the word after the program's name is a command, unlike that in "lstm-ray has no keys"."""
    return word not in {
        "cannot",
        "does",
        "has",
        "that",
        "and",
        "itself",
        "in",
        "on",
        "is",
        "since",
        "version",
        "which",
        "needs",
    }


def _calls() -> Iterator[tuple[str, int, list[str]]]:
    """Yields the words of each `command_line(...)`, those that are computed as values."""
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command_line":
                yield (
                    module,
                    node.lineno,
                    [
                        str(one.value) if isinstance(one, ast.Constant) else _VALUE
                        for one in node.args
                        if not isinstance(one, ast.Starred)
                    ],
                )


@pytest.mark.parametrize(("module", "line", "words"), [call for call in _calls() if call[2] and call[2][0] != _VALUE])
def test_a_command_that_is_put_together_is_understood(module: str, line: int, words: list[str]) -> None:
    test_a_command_in_backquotes_is_understood(module, line, shlex.join(words))
