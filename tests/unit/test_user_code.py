"""User code named as MODULE:NAME: where it is looked for, and the errors if it is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path

import pytest

from lstm_ray import user_code
from lstm_ray.errors import ConfigError

WriteModule = Callable[..., Path]


def find(named: str, directory: str | None = None) -> object:
    return user_code.find(named, lambda value: isinstance(value, dict), "mapping", directory)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("mine:small", True), ("team.reviews:_1", True), ("été:größe", True)]
    + [(given, False) for given in ("mine", "mine:", ":small", "1mine:small", "mine:a.b", "my-own:small", "a:b:c", "")],
)
def test_the_form_of_a_name(given: str, expected: bool) -> None:
    assert user_code.is_named(given) is expected


def test_a_module_of_the_current_directory_is_found_and_the_path_left_as_it_was(write_module: WriteModule) -> None:
    write_module("rests", "SIZE = 8")
    write_module("mine", "import rests\nsmall = {'units': rests.SIZE}")
    before = list(sys.path)
    assert find("mine:small") == {"units": 8}
    assert sys.path == before


def test_a_module_in_a_package_of_another_directory_is_found(write_module: WriteModule, tmp_path: Path) -> None:
    write_module("team.reviews", "small = {'units': 8}", tmp_path / "elsewhere")
    assert find("team.reviews:small", str(tmp_path / "elsewhere")) == {"units": 8}


def test_an_installed_module_is_found(write_module: WriteModule) -> None:
    assert find("lstm_ray.config:PRESETS").keys() == {"none", "lstm", "bilstm", "best"}  # type: ignore[attr-defined]


def test_what_a_module_prints_is_no_result(write_module: WriteModule, capsys: pytest.CaptureFixture[str]) -> None:
    write_module("loud", "print('hello')\nsmall = {}")
    find("loud:small")
    assert capsys.readouterr() == ("", "hello\n")


def test_a_module_that_imports_keras_gets_the_one_that_trains(
    write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("KERAS_BACKEND", "jax"), ("TF_USE_LEGACY_KERAS", "1")):
        monkeypatch.setenv(name, value)
    read = "(os.environ['KERAS_BACKEND'], os.environ.get('TF_USE_LEGACY_KERAS'))"
    write_module("mine", f"import os\nsmall = {{'keras': {read}}}")
    assert find("mine:small") == {"keras": ("tensorflow", None)}


WRONG = [
    ("mine:small", "SMALL = {}", "mine (PLACE/mine.py) has no 'small'; its mappings: SMALL"),
    ("mine:smal", "small = {}", "mine (PLACE/mine.py) has no 'smal'; did you mean 'small'?"),
    ("mine:small", "_small = {}", "mine (PLACE/mine.py) has no 'small'; it has no mapping"),
    ("mine:n", "n = 3\na = {}", "n in mine (PLACE/mine.py) is of type int, not a mapping; its mappings: a"),
    ("none:small", "", "no module 'none' in PLACE, and none is installed: run in its directory, or install it"),
    (
        "mine.more:small",
        "",
        "no module 'mine.more' in PLACE, and none is installed: run in its directory, or install it",
    ),
    ("mine:small", "import nosuch", "module 'mine' fails to import: ModuleNotFoundError: No module named 'nosuch'"),
    ("mine:small", "\n1 / 0", "module 'mine' fails to import: ZeroDivisionError: division by zero (mine.py, line 2)"),
    (
        "mine:small",
        "from lstm_ray.config import TrainConfig\nTrainConfig().unit",
        "module 'mine' fails to import: AttributeError: 'TrainConfig' object has no attribute 'unit': "
        "did you mean 'units'? (mine.py, line 2)",
    ),
    ("mine:small", "assert 0", "module 'mine' fails to import: AssertionError (mine.py, line 1)"),
    ("mine:small", "small = {", "module 'mine' fails to import: SyntaxError: '{' was never closed (mine.py, line 1)"),
    ("mine:small", "import sys\nsys.exit(3)", "module 'mine' fails to import: SystemExit: 3 (mine.py, line 2)"),
]


@pytest.mark.parametrize(("named", "source", "message"), WRONG)
def test_what_is_missing_is_reported(
    write_module: WriteModule, tmp_path: Path, named: str, source: str, message: str
) -> None:
    write_module("mine", source)
    with pytest.raises(ConfigError) as raised:
        find(named)
    assert str(raised.value).startswith(message.replace("PLACE", str(tmp_path)))
    assert "\n" not in str(raised.value)


def test_the_reported_line_is_the_users_also_if_their_directory_holds_the_environment(
    write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module("lib.installed", "def fail():\n    1 / 0", tmp_path / "venv")
    monkeypatch.syspath_prepend(tmp_path / "venv")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    write_module("mine", "\nfrom lib import installed\ninstalled.fail()")
    with pytest.raises(ConfigError, match=r"ZeroDivisionError: division by zero \(mine\.py, line 3\)"):
        find("mine:small")


class Editable:
    """A finder such as setuptools puts into `sys.meta_path` for an editable install."""

    def __init__(self, name: str, path: Path) -> None:
        self._name, self._path = name, path

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """Returns where the one module is that this finder knows."""
        if name != self._name:
            return None
        return spec_from_file_location(name, self._path, submodule_search_locations=[str(self._path.parent)])


def test_what_an_import_runs_is_found_for_editable_installs_too(
    write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_module("edited.layers", "LAYERS = 1", tmp_path / "elsewhere").parent
    (package / "__init__.py").write_text("", encoding="utf-8")
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable("edited", package / "__init__.py")])
    runs = user_code.run_by_import("edited.layers")
    assert [(run.module, run.path.name) for run in runs] == [("edited", "__init__.py"), ("edited.layers", "layers.py")]
    assert user_code.run_by_import("not_there") == []


def test_what_tensorflow_generates_below_the_directory_is_not_the_users(
    write_module: WriteModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow's autograph writes modules to TMPDIR: jobs often have it in their own directory."""
    generated = "__autograph_generated_file0uhla6wk"
    write_module(generated, "def tf__call(): pass")
    write_module("generates", f"import {generated}\nsmall = {{}}")
    assert set(user_code.sources("generates")) == {"generates.py"}
    tensorflow = find_spec("tensorflow")
    assert tensorflow is not None
    loader = Path(str(tensorflow.origin)).with_name("python") / "autograph" / "pyct" / "loader.py"
    assert "prefix='__autograph_generated_file'" in loader.read_text(encoding="utf-8")
