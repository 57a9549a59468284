"""`--help`: quick, complete, with an example for every command and an option for every setting."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from lstm_ray.cluster.definition.settings import ClusterConfig
from lstm_ray.config import COMMANDS, ConvertConfig, Settings, SplitConfig, command_of, left_open, option_name, resolve

HEAVY = ("ray", "tensorflow", "keras", "pyarrow", "numpy", "matplotlib", "jinja2", "llvmlite")

# Asks for the help of every command in one process, and prints what that has imported.
_ASK_FOR_ALL_HELP = f"""
import contextlib, io, json, sys
import typer
from lstm_ray.cli.app import app, main

def commands(command, path=()):
    yield path, command
    for name, inner in getattr(command, "commands", {{}}).items():
        yield from commands(inner, (*path, name))

shown, options = {{}}, {{}}
for path, command in commands(typer.main.get_command(app)):
    sys.argv = ["lstm-ray", *path, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main()
    shown[" ".join(path)] = out.getvalue()
    seen = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    names = [name for parameter in seen for name in [*parameter.opts, *parameter.secondary_opts]]
    options[" ".join(path)] = [name for name in names if name.startswith("--")]
print(json.dumps({{"help": shown, "options": options, "loaded": sorted(set({HEAVY!r}) & set(sys.modules))}}))
"""


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """Gives the help of every command ("" is the program's own), their options, and heavy packages loaded for it."""
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-c", _ASK_FOR_ALL_HELP]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_help_loads_no_heavy_package(asked: dict[str, Any]) -> None:
    assert asked["loaded"] == []


def test_all_commands_are_found(asked: dict[str, Any]) -> None:
    commands = (
        *("demo", "train", "tune", "score", "evaluate", "calibrate"),
        *("predict", "export", "vectors", "doctor", "submit"),
        *(f"data {name}" for name in ("imdb", "demo", "convert", "split")),
        *(f"config {name}" for name in ("show", "schema")),
        *(f"cluster {name}" for name in ("render", "validate", "up", "down", "status")),
        *(f"jobs {name}" for name in ("list", "status", "logs", "stop")),
    )
    assert {"", "data", "config", "cluster", "jobs", *commands} == set(asked["help"])


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (
            "train",
            "--train --validation --output --preset --config --embeddings --text-column --label-column "
            "--vocabulary-size --max-tokens --padding --truncating --strip-html --no-strip-html --epochs "
            "--global-batch-size --learning-rate --seed --workers --gpus-per-worker --cpus-per-worker --address "
            "--max-rows --fresh",
        ),
        (
            "score",
            "--model --output --config --text-column --keep-columns --prefix --rows-per-part --max-rows "
            "--max-bad-files --overwrite --actors --address",
        ),
        ("evaluate", "--model --output --json --text-column --label-column --max-rows --address"),
        ("predict", "--model"),
        ("export", "--model --format"),
        ("vectors", "--text --output"),
        ("cluster render", "--output"),
        ("submit", "--address"),
    ],
)
def test_the_options_that_scripts_rely_on_have_their_names(asked: dict[str, Any], command: str, options: str) -> None:
    assert set(options.split()) <= set(asked["options"][command])


def test_every_option_is_whole_on_a_terminal_of_80_columns(asked: dict[str, Any]) -> None:
    assert sum(map(len, asked["options"].values())) > 200
    for path, options in asked["options"].items():
        lines = [line for line in asked["help"][path].splitlines() if not line.startswith("  Example: ")]
        for option in options:
            begin = rf"^  (-\w, |--[\w-]+ / )?{re.escape(option)}(?![\w-])"
            assert any(re.search(begin, line) for line in lines), f"{option} in: lstm-ray {path} --help"
        assert max(map(len, lines)) <= 80, path


def test_every_command_has_help_and_an_example(asked: dict[str, Any]) -> None:
    groups = {path for path in asked["help"] if any(other.startswith(f"{path} ") for other in asked["help"])} | {""}
    for path, text in asked["help"].items():
        assert "Usage: lstm-ray" in text or f"{path} [OPTIONS]" in text, path
        if path not in groups:
            example = re.search(r"Example: lstm-ray ([^\n]*)", text)
            assert example, f"`lstm-ray {path} --help` shows no example"
            assert example[1].startswith(path), f"the example of `lstm-ray {path}` is of another command"


def test_the_programs_help_has_all_commands_in_groups_with_whole_sentences(asked: dict[str, Any]) -> None:
    text = asked["help"][""]
    titles = re.findall(r"^(\w[\w ]+):$", text, re.MULTILINE)
    assert titles == ["Options", "Begin", "Train", "Use a model", "Clusters"]
    assert "..." not in text.partition("Options:")[2]
    for path in asked["help"]:
        assert not path or re.search(rf"^  {path.split()[0]}  ", text, re.MULTILINE), path


def test_every_output_has_a_short_name_and_every_command_takes_debug(asked: dict[str, Any]) -> None:
    for path, options in asked["options"].items():
        if "--output" in options:
            assert "-o, --output" in asked["help"][path], path
        is_group = any(other.startswith(f"{path} ") for other in asked["help"])
        assert not path or is_group or {"--quiet", "--verbose", "--debug"} <= set(options), path


@pytest.mark.parametrize("kind", [*COMMANDS.values(), ClusterConfig])
def test_every_setting_is_an_option_with_its_sentence(asked: dict[str, Any], kind: type[Settings]) -> None:
    inside = {ClusterConfig: "cluster render", ConvertConfig: "data convert", SplitConfig: "data split"}
    text = asked["help"][inside.get(kind, command_of(kind))]
    flat = " ".join(text.split())
    for name, field in kind.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        if not extra["option"]:
            continue
        if command_of(kind) in extra.get("refused", ()):
            assert not re.search(rf"^  {re.escape(option_name(name))} ", text, re.MULTILINE), name
            continue
        if extra["argument"]:
            assert re.search(rf"^  {name.removesuffix('s').upper()}\b", text, re.MULTILINE), name
        else:
            assert re.search(rf"(?<![\w-]){re.escape(option_name(name))}(?![\w-])", text), name
        assert field.description
        assert field.description in flat, f"the help of {name} is cut off"


@pytest.mark.parametrize("kind", COMMANDS.values())
def test_a_default_is_what_a_command_without_the_option_uses(asked: dict[str, Any], kind: type[Settings]) -> None:
    used = resolve(kind, {})
    open_settings = left_open(used)
    text = " ".join(
        asked["help"][{"convert": "data convert", "split": "data split"}.get(n := command_of(kind), n)].split()
    )
    for name, field in kind.model_fields.items():
        shown = re.search(re.escape(str(field.description)) + r" \(default: ([^;)]*)", text)
        if shown is None:
            continue
        value = getattr(used, name)
        expected = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
        expected = ",".join(value) if isinstance(value, tuple) else expected
        assert shown[1] == ("chosen for the data" if name in open_settings else expected), name


def test_every_example_parses(asked: dict[str, Any]) -> None:
    """An example names options that there are: Typer refuses others before anything else."""
    for text in asked["help"].values():
        for example in re.findall(r"Example: lstm-ray ([^\n]*)", text):
            path = next(
                path for path in sorted(asked["help"], key=len, reverse=True) if path and example.startswith(path)
            )
            for option in re.findall(r"(?<!\S)--[\w-]+", example):
                assert option in asked["help"][path], f"{option} in: lstm-ray {example}"


def test_the_command_line_is_imported_in_a_moment() -> None:
    def cpu_seconds(code: str) -> float:
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    # Of the processor, not of the clock, and the best of three: other work on the machine only ever makes it slower.
    assert min(cpu_seconds("import lstm_ray.cli") for _ in range(3)) < 1.5
