"""Modules of the user's own: found, and their mistakes told in a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lstm_ray import own_code
from lstm_ray.errors import ConfigError


@pytest.fixture
def module(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Gives the name of a module, which no other test has."""
    return f"own_{abs(hash(request.node.nodeid))}"


def write(directory: Path, module: str, content: str) -> None:
    (directory / f"{module}.py").write_text(content, encoding="utf-8")


def test_what_a_module_has_is_found_and_python_s_path_stays(tmp_path: Path, module: str) -> None:
    write(tmp_path, module, f"import {module}_beside\nvalue = {module}_beside.value + 1\n")
    write(tmp_path, f"{module}_beside", "value = 6\n")
    before = list(sys.path)
    assert own_code.find(f"{module}:value", str(tmp_path)) == 7
    assert sys.path == before


def test_the_current_directory_is_looked_in(tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / module).mkdir()
    write(tmp_path / module, "inside", "value = 8\n")
    monkeypatch.chdir(tmp_path)
    assert own_code.find(f"{module}.inside:value") == 8


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such module in {place}, nor is one installed: run the command where it lies"),
        ("other = 1\n_hidden = 2\n", "{file} has no 'value'; it has other"),
        ("", "{file} has no 'value'; it has nothing"),
        ("\nvalue = 1 / 0\n", "ZeroDivisionError at {file}:2: division by zero"),
        ("value = (\n", "SyntaxError at {file}:1: '(' was never closed"),
        (
            "import there_is_no_such\n",
            "ModuleNotFoundError at {file}:1: No module named 'there_is_no_such'",
        ),
    ],
    ids=["no module", "no name", "nothing", "raises", "no Python", "imports what is not there"],
)
def test_what_is_wrong_is_told(tmp_path: Path, module: str, content: str | None, told: str) -> None:
    if content is not None:
        write(tmp_path, module, content)
    with pytest.raises(ConfigError) as caught:
        own_code.find(f"{module}:value", str(tmp_path))
    assert told.format(place=tmp_path, file=tmp_path / f"{module}.py") in str(caught.value)
    assert str(caught.value).startswith(module)


@pytest.mark.parametrize("name", ["lstm", "a.b", ":x", "a:", "a:b.c", "a/b:c", "1a:b", "a:b c"])
def test_what_is_no_place_of_one_s_own(name: str) -> None:
    assert not own_code.NAME.fullmatch(name)
