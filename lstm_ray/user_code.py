"""User code: objects named MODULE:NAME, in a module of the current directory or an installed one."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_ray.errors import ConfigError
from lstm_ray.runtime.tensorflow import choose_keras
from lstm_ray.wording import reason

FORM = "MODULE:NAME"
_unpacked: str | None = None  # directory of the user's code in a process that received it from another
_GENERATED = "__autograph_generated_file"  # how TensorFlow names modules in TMPDIR, which may be below the directory
_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_named(given: str) -> bool:
    """Returns whether a text has the form MODULE:NAME, such as mine:small or team.reviews:small."""
    return _NAMED.fullmatch(given) is not None


def find(named: str, is_wanted: Callable[[Any], bool], wanted: str, directory: str | None = None) -> Any:
    """Imports a module and returns the object of the given name.

    Args:
        named: The name, as MODULE:NAME.
        is_wanted: Returns whether an object is of the required kind.
        wanted: The kind's name for messages, such as "mapping".
        directory: Directory of the user's modules; None is the current directory.

    Raises:
        ConfigError: There is no such module, it fails to import, or it has no object of that kind and name.
    """
    module_name, _, name = named.partition(":")
    module = import_module(module_name, directory)
    shown = f"{module_name} ({module.__file__})" if getattr(module, "__file__", None) else module_name
    candidates = {key: value for key, value in vars(module).items() if is_wanted(value) and not key.startswith("_")}
    if name in vars(module) and is_wanted(vars(module)[name]):
        return vars(module)[name]
    known = f"its {wanted}s: {', '.join(sorted(candidates))}" if candidates else f"it has no {wanted}"
    if name in vars(module):
        raise ConfigError(f"{name} in {shown} is of type {type(vars(module)[name]).__name__}, not a {wanted}; {known}")
    close = difflib.get_close_matches(name, candidates, n=1)
    raise ConfigError(f"{shown} has no {name!r}; {f'did you mean {close[0]!r}?' if close else known}")


def import_module(name: str, directory: str | None = None) -> ModuleType:
    """Imports a module from `directory` (None is the current one), or an installed module.

    What the module prints goes to stderr: stdout is for results.

    Raises:
        ConfigError: There is no such module, or it fails to import.
    """
    searched = str(_code_directory(directory))
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"module {name!r} has the name of a module of Python's standard library: rename yours")
    choose_keras()  # the module may import it
    try:
        with importable_from(searched), contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(_failure(name, error, searched)) from error  # the module imports a missing one
        raise ConfigError(
            f"no module {error.name!r} in {searched}, and none is installed: run in its directory, or install it; "
            "`lstm-ray submit` sends it with --working-dir"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(name, error, searched)) from error


@contextmanager
def importable_from(directory: str | None = None) -> Iterator[None]:
    """Puts a directory (None: that of the user's code) first on `sys.path` inside the `with` block.

    Only there: the console script `lstm-ray` does not have the current directory on `sys.path`, so that a file there
    cannot shadow a module of Python.
    """
    directory = str(_code_directory(directory))
    sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the file may be newer than Python's cached listing of the directory
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed sys.path
            sys.path.remove(directory)


def _failure(name: str, error: BaseException, directory: str) -> str:
    """Returns a message with the error of an import and the line of user code that raised it."""
    return f"module {name!r} fails to import: {described(error, directory)}"


def described(error: BaseException, directory: str | None = None) -> str:
    """Returns an error of user code as one line: type, message, and the innermost line of user code.

    Args:
        error: The error.
        directory: Directory of the user's code; None is the one that `unpacked` made, or the current directory.
    """
    root = _code_directory(directory)
    message = f"{type(error).__name__}: {reason(error)}" if str(error) else type(error).__name__
    if isinstance(error, AttributeError) and (
        close := difflib.get_close_matches(error.name or "", dir(error.obj), n=1)
    ):
        message += f": did you mean {close[0]!r}?"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(Path(frame.filename), root)]
    return f"{message} ({os.path.relpath(frames[-1].filename, root)}, line {frames[-1].lineno})" if frames else message


def _code_directory(directory: str | None = None) -> Path:
    return Path(os.path.abspath(directory or _unpacked or os.curdir))


def _is_users(path: Path, directory: Path) -> bool:
    """Returns whether a file in a directory of user code belongs to the user.

    The virtual environment may be in that directory too, and during development so may this package.
    """
    elsewhere = (sys.prefix, sys.base_prefix, os.path.dirname(__file__))
    return (
        path.is_relative_to(directory)
        and not {"site-packages", "dist-packages"}.intersection(path.parts)
        and not any(path.resolve().is_relative_to(Path(other).resolve()) for other in elsewhere)
    )


@dataclass(frozen=True)
class Run:
    """A file that an import executes.

    Attributes:
        module: The module's name.
        path: The file.
        is_here: Whether the file is in the directory of the user's code, and not installed there.
    """

    module: str
    path: Path
    is_here: bool


def run_by_import(module: str) -> list[Run]:
    """Returns the files that importing a module would execute: its parents', then its own. Imports nothing.

    Parents matter even if the module is missing: Python executes setup.py before it finds that there is no
    setup.layers.
    """
    directory = _code_directory()
    elsewhere = [path for path in sys.path if Path(os.path.abspath(path or os.curdir)) != directory]
    importlib.invalidate_caches()
    runs: list[Run] = []
    searched: list[str] | None = [str(directory), *elsewhere]
    for depth in range(module.count(".") + 1):
        name = ".".join(module.split(".")[: depth + 1])
        spec = _find_spec(name, searched, is_top=not depth)
        if spec is None:
            break
        if spec.origin is not None:  # a directory without __init__.py executes nothing
            path = Path(spec.origin)
            is_installed = {"site-packages", "dist-packages"}.intersection(path.parts)
            runs.append(Run(name, path, path.is_relative_to(directory) and not is_installed))
        if spec.submodule_search_locations is None:
            break
        searched = list(spec.submodule_search_locations)
    return runs


def _find_spec(name: str, places: Sequence[str] | None, *, is_top: bool) -> ModuleSpec | None:
    """Returns what an import would find, asking as Python does: editable installs have finders of their own.

    Args:
        name: The module's name.
        places: Directories to look in.
        is_top: Whether the module is in no package, so that other finders are asked without places.
    """
    for finder in sys.meta_path:
        found = finder.find_spec(name, places if finder is PathFinder or not is_top else None)
        if found is not None:
            return found
    return None


def source_of(module: str) -> bytes | None:
    """Returns the source of a module in the current directory, or None if it is not there. Imports nothing."""
    path = _code_directory() / module.replace(".", "/")
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file.read_bytes()
    return None


def is_in(module: str, directory: str) -> bool:
    """Returns whether a module, or its package, is in a directory. Imports nothing."""
    importlib.invalidate_caches()
    return PathFinder.find_spec(module.partition(".")[0], [os.path.abspath(directory)]) is not None


def is_installed(module: str) -> bool:
    """Returns whether a module, or its package, is installed. Imports nothing."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # __main__ has no spec
        return False


def sources(module: str) -> dict[str, bytes]:
    """Imports a module, and returns its source files and those it imports from its directory, to send to workers.

    A module that is imported inside a function is found only after the function has run.

    Args:
        module: The module's name. For an installed module nothing is returned: other machines have it too.

    Returns:
        Content by path, relative to the directory from which modules are imported.

    Raises:
        ConfigError: There is no such module, or it fails to import.
    """
    directory = _code_directory()
    own = _file_of(import_module(module, str(directory)))
    if own is None or not _is_users(own, directory):
        return {}
    found = {}
    for name, loaded in list(sys.modules.items()):
        path = _file_of(loaded)
        if name == "__main__" or name.startswith(_GENERATED):
            continue
        if path is not None and _is_users(path, directory) and path.is_file():
            # The path follows from the module's name, because that is how it will be imported elsewhere.
            end = "/__init__.py" if hasattr(loaded, "__path__") else ".py"
            found[name.replace(".", "/") + end] = path.read_bytes()
    return found


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if isinstance(file, str) and file.endswith(".py") else None


@contextmanager
def unpacked(files: Mapping[str, bytes]) -> Iterator[None]:
    """Makes modules that `sources` returned in another process importable inside the `with` block."""
    global _unpacked
    if not files:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lstm-ray-code-") as directory:
        for name, content in files.items():
            path = Path(directory, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        _unpacked = directory
        try:
            with importable_from(directory):
                yield
        finally:
            _unpacked = None
