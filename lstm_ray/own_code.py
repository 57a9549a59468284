"""Modules of the user's own: presets, and functions that build a network.

They are looked for in one directory, that of the command or of the job, and else among what is installed. Only while
something is imported or called from there does the directory stand in Python's path.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from lstm_ray.errors import ConfigError

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
"""MODULE:NAME"""


def find(name: str, directory: str = "") -> Any:
    """Returns what a module of the user's has under a name.

    Args:
        name: MODULE:NAME.
        directory: Where to look first; by default the current one.

    Raises:
        ConfigError: There is no such module or name, or the module cannot be imported.
    """
    place, _, attribute = name.partition(":")
    module = _import(place, directory)
    try:
        return getattr(module, attribute)
    except AttributeError:
        known = sorted(public for public in vars(module) if not public.startswith("_"))
        raise ConfigError(
            f"{name}: {_file_of(module)} has no {attribute!r}; it has {', '.join(known) or 'nothing'}"
        ) from None


@contextmanager
def told(name: str, directory: str = "") -> Iterator[None]:
    """Runs code of the user's, who gets told what it raises and where, in a line.

    Raises:
        ConfigError: It raised something.
    """
    place = str(Path(directory).resolve())
    sys.path.insert(0, place)
    importlib.invalidate_caches()  # a module may be newer than Python's list of the directory
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # whatever code of others may raise; raised again
        frame = traceback.extract_tb(error.__traceback__)[-1]
        at = error if isinstance(error, SyntaxError) else frame
        raise ConfigError(f"{name}: {type(error).__name__} at {at.filename}:{at.lineno}: {error}") from error
    finally:
        sys.path.remove(place)


def _import(module: str, directory: str) -> ModuleType:
    with told(module, directory):
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise  # one that theirs imports
            place = Path(directory).resolve()
            raise ConfigError(
                f"{module}: there is no such module in {place}, nor is one installed: run the command where it lies"
            ) from error


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__
