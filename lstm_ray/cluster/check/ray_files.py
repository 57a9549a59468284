"""Reads Ray's schema and options from the files of the installed Ray, because importing Ray takes seconds."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import distribution
from typing import Any

from lstm_ray.cluster.check.document import FieldPath, Finding

_LOGGING_OPTIONS = ("--log-style", "--log-color", "--verbose")  # of all commands; declared in another file


@cache
def launcher_schema() -> dict[str, Any]:
    """Returns Ray's JSON schema of launcher YAML."""
    schema: dict[str, Any] = json.loads(_read("ray/autoscaler/ray-schema.json"))
    return schema


@cache
def start_options() -> frozenset[str]:
    """Returns the options of `ray start`, such as --head."""
    options = set(_LOGGING_OPTIONS)
    for node in ast.parse(_read("ray/scripts/scripts.py")).body:
        if isinstance(node, ast.FunctionDef) and node.name == "start":
            declared = [
                argument for call in node.decorator_list if isinstance(call, ast.Call) for argument in call.args
            ]
            options |= {str(one.value) for one in declared if isinstance(one, ast.Constant)}
    return frozenset(option for option in options if option.startswith("--"))


def check_start_options(options: Iterable[str], field: FieldPath) -> Iterator[Finding]:
    """Yields a finding for each unknown option of `ray start`: a mistake if it looks misspelt, otherwise a note.

    An unknown option may be valid on the nodes, if their version of Ray is not the one installed here.
    """
    known = start_options()
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, known, n=1, cutoff=0.7)
            remedy = f"did you mean {close[0]}?" if close else "make sure that Ray on the nodes has it"
            yield Finding(field, f"`ray start {option}`: unknown option; {remedy}", "mistake" if close else "note")


def _read(path: str) -> str:
    with open(str(distribution("ray").locate_file(path)), encoding="utf-8") as file:
        return file.read()
