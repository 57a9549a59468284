"""The user's own code: what MODULE:NAME stands for, in a module that lies in a directory of theirs or is installed."""

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_ray.errors import ConfigError
from lstm_ray.runtime.tensorflow import choose_keras
from lstm_ray.wording import reason

FORM = "MODULE:NAME"
_unpacked: str | None = None  # where the user's code lies in a process that was sent it
_NAMED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_named(given: str) -> bool:
    """Says whether a text has the form MODULE:NAME, such as mine:small or team.reviews:small."""
    return _NAMED.fullmatch(given) is not None


def find(named: str, is_wanted: Callable[[Any], bool], wanted: str, directory: str | None = None) -> Any:
    """Imports a module of the user's and returns what has the given name in it.

    Args:
        named: MODULE:NAME.
        is_wanted: Says whether something is of the wanted kind.
        wanted: What that kind is called, such as "mapping".
        directory: Where the module may lie; None is the current directory.

    Raises:
        ConfigError: There is no such module, it fails to import, or it holds nothing of that kind by that name.
    """
    module_name, _, name = named.partition(":")
    module = import_module(module_name, directory)
    place = f"{module_name} ({module.__file__})" if getattr(module, "__file__", None) else module_name
    there = {key: value for key, value in vars(module).items() if is_wanted(value) and not key.startswith("_")}
    if name in vars(module) and is_wanted(vars(module)[name]):
        return vars(module)[name]
    known = f"{wanted}s there: {', '.join(sorted(there))}" if there else f"there is no {wanted} in it"
    if name in vars(module):
        raise ConfigError(f"{name} in {place} is of type {type(vars(module)[name]).__name__}, not a {wanted}; {known}")
    close = difflib.get_close_matches(name, there, n=1)
    raise ConfigError(f"{place} has no {name!r}; {f'did you mean {close[0]!r}?' if close else known}")


def import_module(name: str, directory: str | None = None) -> ModuleType:
    """Imports a module of the user's, which may lie in `directory` (None is the current one) or be installed.

    What it prints goes to stderr: stdout is for results.

    Raises:
        ConfigError: There is no such module, or it fails to import.
    """
    place = str(_place(directory))
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise ConfigError(f"module {name!r} is Python's own: rename yours")
    choose_keras()  # the module may import it
    try:
        with importable_from(place), contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(_failure(name, error, place)) from error  # one that it imports is missing
        raise ConfigError(
            f"no module {error.name!r} in {place}, nor installed: run where it lies, or install it; "
            "`lstm-ray submit` sends it with --working-dir"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigError(_failure(name, error, place)) from error


@contextmanager
def importable_from(directory: str | None = None) -> Iterator[None]:
    """Lets modules of a directory, the user's if None, be imported for the while, before others of their names.

    Only for the while: the console script `lstm-ray` does without the current directory on `sys.path`, so that a file
    in it that is called like a module of Python's is not taken for that.
    """
    directory = str(_place(directory))
    sys.path.insert(0, directory)
    importlib.invalidate_caches()  # the file may be newer than what Python knows of its directory
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the module may have changed the path, too
            sys.path.remove(directory)


def _failure(name: str, error: BaseException, directory: str) -> str:
    """Says what kept a module from being imported, and the line of the user's that it came from."""
    return f"module {name!r} fails to import: {described(error, directory)}"


def described(error: BaseException, directory: str | None = None) -> str:
    """Returns an error of the user's code in one line: its type, its message, and the last of their lines it is from.

    Args:
        error: What was raised.
        directory: Where their code lies; None is where `unpacked` has put it, or else the current directory.
    """
    place = _place(directory)
    message = f"{type(error).__name__}: {reason(error)}" if str(error) else type(error).__name__
    if isinstance(error, AttributeError) and (
        close := difflib.get_close_matches(error.name or "", dir(error.obj), n=1)
    ):
        message += f": did you mean {close[0]!r}?"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_theirs(Path(frame.filename), place)]
    return f"{message} ({os.path.relpath(frames[-1].filename, place)}, line {frames[-1].lineno})" if frames else message


def _place(directory: str | None = None) -> Path:
    return Path(os.path.abspath(directory or _unpacked or os.curdir))


def _is_theirs(path: Path, place: Path) -> bool:
    """Says whether a file below a directory is the user's.

    The environment may lie in their directory too, and so may this package, where somebody develops it.
    """
    elsewhere = (sys.prefix, sys.base_prefix, os.path.dirname(__file__))
    return (
        path.is_relative_to(place)
        and not {"site-packages", "dist-packages"}.intersection(path.parts)
        and not any(path.resolve().is_relative_to(Path(other).resolve()) for other in elsewhere)
    )


def source_of(module: str) -> bytes | None:
    """Returns the source of a module in the current directory; None if it is not there. Imports nothing."""
    path = _place() / module.replace(".", "/")
    for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
        if file.is_file():
            return file.read_bytes()
    return None


def lies_in(module: str, directory: str) -> bool:
    """Says whether a module, or the package it is in, lies in a directory; imports nothing."""
    importlib.invalidate_caches()
    return PathFinder.find_spec(module.partition(".")[0], [os.path.abspath(directory)]) is not None


def is_installed(module: str) -> bool:
    """Says whether a module, or the package it is in, is found without a directory of the user's; imports nothing."""
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is not None
    except ValueError:  # __main__ has no spec
        return False


def sources(module: str) -> dict[str, bytes]:
    """Imports a module; returns its files and those it imports from its directory, for other processes and machines.

    A module that is only imported when a function runs is found once the function has run.

    Args:
        module: A module. Of one that is installed nothing is returned: it is elsewhere, too.

    Returns:
        Content by path, from where modules are imported.

    Raises:
        ConfigError: There is no such module, or it fails to import.
    """
    place = _place()
    own = _file_of(import_module(module, str(place)))
    if own is None or not _is_theirs(own, place):
        return {}
    found = {}
    for name, loaded in list(sys.modules.items()):
        path = _file_of(loaded)
        if path is not None and name != "__main__" and _is_theirs(path, place) and path.is_file():
            # By its name: that is what will be imported, wherever below the current directory it was found.
            end = "/__init__.py" if hasattr(loaded, "__path__") else ".py"
            found[name.replace(".", "/") + end] = path.read_bytes()
    return found


def _file_of(module: ModuleType) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).absolute() if isinstance(file, str) and file.endswith(".py") else None


@contextmanager
def unpacked(files: Mapping[str, bytes]) -> Iterator[None]:
    """Lets modules be imported, for the while, from what `sources` returned in another process."""
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
