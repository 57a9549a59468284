"""Writes docs/reference/cli.md, settings.md and python.md from the code: `python scripts/reference.py`.

A test compares the pages with what this prints (tests/unit/docs/test_reference.py).
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import typer

import lstm_ray
from lstm_ray import errors, progress
from lstm_ray.cli.app import app
from lstm_ray.cli.help import described
from lstm_ray.config import COMMANDS, PRESETS, Settings, TrainConfig, fields_in_order, shown_as
from lstm_ray.datasets.convert import Converted
from lstm_ray.datasets.split import SplitFile
from lstm_ray.evaluate.calibration import Calibration
from lstm_ray.evaluate.evaluation import Evaluation
from lstm_ray.export.export import Exported
from lstm_ray.score.output import Manifest
from lstm_ray.train.results import Outcome
from lstm_ray.tune.run import SearchResult
from lstm_ray.vectors.run import LearnedFile

DIRECTORY = Path(__file__).parents[1] / "docs" / "reference"
_OF_ALL = ("quiet", "verbose", "debug")  # options of every command, listed once
_NOTE = "<!-- Written by scripts/reference.py. -->\n"


def pages() -> dict[str, str]:
    """Returns the generated pages by file name."""
    return {"cli.md": _cli(), "settings.md": _settings(), "python.md": _python()}


def _cli() -> str:
    root: Any = typer.main.get_command(app)
    lines = [
        f"{_NOTE}# Command line\n",
        "`lstm-ray COMMAND --help` shows the same. [Inputs](inputs.md) describes what commands read, [Files](files.md)"
        " what they write, and [Errors](errors.md) the exit codes.\n",
        _table(
            ("option of every command", ""),
            _options(root, [one for one in root.params if one.name in ("version", *_OF_ALL)]),
        ),
    ]
    for path, command in _commands(root, ()):
        lines += [f"## lstm-ray {' '.join(path)}\n", *_described(command.help or "")]
        panels: dict[str, list[Any]] = {}
        for parameter in command.params:
            if parameter.name in _OF_ALL or getattr(parameter, "hidden", False):
                continue
            is_argument = parameter.param_type_name == "argument"
            panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
            panels.setdefault(panel, []).append(parameter)
        lines += [_table((title, ""), _options(command, parameters)) for title, parameters in panels.items()]
    return "\n".join(lines)


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield path, command


def _described(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        example = paragraph.removeprefix("Example: ")
        yield f"{_escaped(paragraph)}\n" if example == paragraph else f"```sh elsewhere=example\n{example}\n```\n"


def _options(command: Any, parameters: Iterable[Any]) -> Iterator[tuple[str, str]]:
    context = typer.Context(command)
    for parameter in parameters:
        record = parameter.get_help_record(context)
        names = parameter.metavar if parameter.param_type_name == "argument" else record[0]
        yield f"`{names}`", _escaped(described(parameter))


def _settings() -> str:
    lines = [
        f"{_NOTE}# Settings\n",
        "A setting has the same name in [job files](../how-to/job-files.md) and in [Python](python.md). Its option is"
        " described on [Command line](cli.md). Options and keywords take precedence over the job file, the job file"
        " over the preset, and the preset over the default. For `train` and `tune`, the defaults below are those of the"
        " preset `none`; without `preset`, both use `best` (`none` with `network` or `from_`).\n",
        "- **resume**: may have another value when a run resumes.\n- **tune**: may be searched.\n"
        "- **scores**: affects the output of `score`, which refuses an output directory whose scores were"
        " computed with another value.\n"
        "- **data**: the preset `best` chooses the value for the training data.\n",
    ]
    for command, kind in COMMANDS.items():
        known = [name for name in fields_in_order(kind) if command not in shown_as(kind, name).get("refused", ())]
        rows = [_setting(kind, name, command) for name in known]
        lines += [f"## {command}\n", _table(("key", "value", "default", ""), rows)]
    names = [name for name in fields_in_order(TrainConfig) if any(name in preset for preset in PRESETS.values())]
    rows = [(f"`{name}`", *(_in_preset(preset, name) for preset in PRESETS)) for name in names]
    lines += [
        "## Presets\n",
        "Settings that are not listed here have their defaults in every preset, except that `best` also chooses those"
        " marked **data** above.\n",
        _table(("key", *(f"`{name}`" for name in PRESETS)), rows),
    ]
    return "\n".join(lines)


def _in_preset(preset: str, name: str) -> str:
    if preset == "best" and shown_as(TrainConfig, name).get("from_data"):
        return "**data**"
    return _shown(PRESETS[preset].get(name, TrainConfig.model_fields[name].default))


def _setting(kind: type[Settings], name: str, command: str) -> tuple[str, ...]:
    field, shown = kind.model_fields[name], shown_as(kind, name)
    marks = (
        ("resume", command in shown.get("may_change", ())),
        ("tune", shown.get("searchable", False) and command in ("train", "tune")),
        ("scores", shown.get("fingerprint", "nothing") != "nothing" and command == "score"),
        ("data", shown.get("from_data", False) and command in ("train", "tune")),
    )
    default = "required" if shown.get("must_be_given") else _shown(field.default)
    return f"`{name}`", _values(field, shown), default, ", ".join(mark for mark, is_set in marks if is_set)


def _values(field: Any, shown: dict[str, Any]) -> str:
    """Returns what a setting may be: its choices, or its type with its limits."""
    kind = str(field.annotation)
    if "Literal" in kind:
        choices = next((part for part in get_args(field.annotation) if get_args(part)), field.annotation)
        return ", ".join(f"`{value}`" for value in get_args(choices))
    if shown["metavar"] and "str" not in kind.replace("tuple[str", ""):
        return _escaped(shown["metavar"])
    plain = kind if "[" in kind or "|" in kind else field.annotation.__name__
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "tuple[str, ...]": "texts"}
    value = names.get(plain.removesuffix(" | None"), "mapping")
    limits = []
    for limit in field.metadata:
        limits += [f"{sign} {number}" for sign, key in _SIGNS if (number := getattr(limit, key, None)) is not None]
    return _escaped(", ".join([shown["metavar"] if value == "text" and shown["metavar"] else value, *limits]))


_SIGNS = ((">=", "ge"), (">", "gt"), ("<=", "le"), ("<", "lt"))


def _shown(value: Any) -> str:
    if value in (None, "", ()):
        return ""
    if isinstance(value, tuple):
        return f"`{','.join(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _python() -> str:
    lines = [
        f"{_NOTE}# Python\n",
        "The functions and classes of `lstm_ray`. [Use lstm-ray from Python](../how-to/python.md) shows how to use"
        " them. All [settings](settings.md) of a command are keywords of its function. Of labels and column names, a"
        " str is split at commas, and a list is taken as it is.\n",
        "## Functions\n",
    ]
    for function in (
        lstm_ray.train, lstm_ray.load, lstm_ray.evaluate, lstm_ray.calibrate, lstm_ray.score, lstm_ray.tune,
        lstm_ray.export, lstm_ray.vectors, lstm_ray.convert, lstm_ray.split,
    ):  # fmt: skip
        lines += [f"### lstm_ray.{function.__name__}\n", _signature(function), *_docstring(function)]
    lines.append("## What they return\n")
    for kind in (
        lstm_ray.Model,
        lstm_ray.Prediction,
        lstm_ray.Explanation,
        Outcome,
        Evaluation,
        Calibration,
        Manifest,
        SearchResult,
        Exported,
        LearnedFile,
        Converted,
        SplitFile,
    ):
        lines += [f"### {kind.__name__}\n", *_docstring(kind)]
        for name, member in vars(kind).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                text = inspect.getdoc(member) or ""
                if isinstance(member, property):  # listed with the attributes
                    returned = text.splitlines()[0].removeprefix("Returns ")
                    lines = [*lines[:-1], f"- `{name}`: {_escaped(returned[0].upper() + returned[1:])}", ""]
                else:
                    lines += [f"#### {kind.__name__}.{name}\n", _signature(member), *_docstring(member)]
    lines.append("## Progress\n")
    for event in (progress.Count, progress.Epoch):
        lines += [f"### lstm_ray.progress.{event.__name__}\n", *_docstring(event)]
    lines += ["## Errors\n", "In `lstm_ray.errors`; each is a subclass of the one that it is indented below:\n"]
    lines += [*_tree(errors.LstmRayError, ""), ""]
    return "\n".join(lines)


def _signature(function: Callable[..., Any]) -> str:
    text = re.sub(r"""(: |-> )(['"])(.*?)\2""", r"\1\3", str(inspect.signature(function)))  # annotations are in quotes
    return f"`{function.__name__}{re.sub(r'^[(]self(, )?', '(', text)}`\n"


def _docstring(documented: Any) -> Iterator[str]:
    """Gives a docstring as Markdown: the named entries of its sections become lists."""
    for paragraph in (inspect.getdoc(documented) or "").split("\n\n"):
        title, _, entries = paragraph.partition(":\n")
        if not entries.startswith("    "):
            yield _escaped(paragraph) + "\n"
            continue
        flat = re.sub(r"\n {8,}", " ", entries)
        yield f"{title}:\n"
        for entry in flat.splitlines():
            name, _, text = entry.strip().partition(": ")
            yield f"- `{name}`: {_escaped(text)}"
        yield ""


def _tree(kind: type[errors.LstmRayError], indent: str) -> Iterator[str]:
    yield f"{indent}- `{kind.__name__}`: {(kind.__doc__ or '').splitlines()[0]} Exit code {kind.exit_code}."
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:  # others, where they are imported, are private
            yield from _tree(inner, indent + "  ")


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [names, ["---"] * len(names), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    return re.sub(r"[<*]", lambda found: f"\\{found[0]}", text)


if __name__ == "__main__":
    for name, text in pages().items():
        (DIRECTORY / name).write_text(text, encoding="utf-8")
