"""Wraps a call from Python: messages name keywords, and the state of the process is restored afterwards."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args, get_origin

from lstm_ray.config import option_name, split_list
from lstm_ray.errors import ConfigError, LstmRayError
from lstm_ray.progress import WARNING, Event, Progress, paced
from lstm_ray.runtime.threads import shared

_by_options: ContextVar[bool] = ContextVar("by_options", default=False)


@contextmanager
def options_named() -> Iterator[None]:
    """Keeps the names of options in messages, for calls from the command line."""
    token = _by_options.set(True)
    try:
        yield
    finally:
        _by_options.reset(token)


@contextmanager
def python_call(
    arguments: Mapping[str, Any], progress: Progress | None = None, *, is_short: bool = False
) -> Iterator[Progress]:
    """Wraps a call of a public function; yields the callback for its progress.

    Errors and messages name settings as keywords (`keywords_named`), and the environment variables of Ray, TensorFlow
    and MLflow are restored at the end.

    Args:
        arguments: Types of the arguments that messages may name, by name.
        progress: The caller's callback; without one, warnings become Python's warnings.
        is_short: True for calls of milliseconds, which set no environment variables.
    """
    report = progress or _warn
    if not callable(report):
        raise ConfigError(f"progress= is of type {type(progress).__name__}: give a function, such as print")
    if progress is print:
        report = paced(print)

    with contextlib.nullcontext() if is_short else _environment_restored():
        if _by_options.get():
            yield report
            return
        with reworded(report, lambda message: keywords_named(message, arguments)) as translated:
            yield translated


def as_path(name: str, given: Any) -> str:
    """Returns the path that an argument gives.

    Raises:
        ConfigError: The argument is something else.
    """
    if not isinstance(given, str | os.PathLike):
        raise ConfigError(f"{name}= is of type {type(given).__name__}: give a path")
    return os.fspath(given)


@contextmanager
def reworded(progress: Progress, change: Callable[[str], str]) -> Iterator[Progress]:
    """Yields a callback that passes on events with their messages changed; errors of the block are changed too."""

    def pass_on(event: Event) -> None:
        progress(change(event) if isinstance(event, str) else event)

    try:
        yield pass_on
    except LstmRayError as error:
        error.args = tuple(change(part) if isinstance(part, str) else part for part in error.args)
        raise


def _warn(event: Event) -> None:
    """Issues a warning among the messages as one of Python; discards other events."""
    if isinstance(event, str) and event.startswith(WARNING):
        warnings.warn(event.removeprefix(WARNING), stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Returns the `stacklevel` with which a warning names the line of the program that called this package.

    Python 3.12 has `skip_file_prefixes` for this.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "lstm_ray",
        "contextlib",
    ):
        level, frame = level + 1, frame.f_back
    return level


_SET_BY_CALLS = re.compile(r"(RAY|TUNE|TF|TF2|KERAS|XLA|GRPC|ABSL|TPU|CUDA|OMP|KMP|HDF5|MLFLOW|ENABLE_RUNTIME)_")
"""Variables that this package, Ray, TensorFlow and MLflow set. Others belong to the program, which may change them."""


@shared
@contextmanager
def _environment_restored() -> Iterator[None]:
    """Restores the variables at the end of the block, including those that libraries set when they are imported."""
    before = _set_by_calls()
    try:
        yield
    finally:
        for name in _set_by_calls().keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _set_by_calls() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if _SET_BY_CALLS.match(name)}


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restores the state of Python's and NumPy's global random generators, which Keras seeds to build a model."""
    import numpy as np

    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


# Matches a command in backquotes or a name in quotes, which stay as they are; or an option or an argument, not inside
# a path, and the word after it as a shell parses it.
_NAMED = re.compile(
    r"`[^`]*`|(?<!\w)'[^']*'(?!\w)|"
    r"(?<![\w/.-])(?P<name>--[a-z][a-z0-9-]*|INPUT|SOURCE)(?![\w=/-])"
    r"""(?: (?P<value>(?!--)(?:'[^']*'(?:"'"'[^']*')*|[^\s'"]+)))?"""
)
_WORDS_OF_SENTENCES = {"and", "or", "out"}  # never the value of the option before them
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")
_BAND = re.compile(r"[\d.]+:[\d.]+")


def keywords_named(message: str, arguments: Mapping[str, Any]) -> str:
    """Replaces options in a message by keywords: `--epochs 3` by `epochs=3`, `--epochs` by `epochs=`.

    Messages are written for the command line, where most are read. The word after an option is taken for its value only
    if it is a number, one of the choices, quoted or a path, or before another option, a question mark or the end.

    Args:
        message: The message.
        arguments: Types of the arguments, by name. Other options stay as they are: they belong to other programs.
    """
    fields = {option_name(name): name for name in arguments} | {"INPUT": "inputs", "SOURCE": "source"}

    def replaced(found: re.Match[str]) -> str:
        name, given = found["name"], found["value"]
        if name is None:
            return found[0]
        field = fields.get(name.replace("--no-", "--", 1))
        if field is None:
            return found[0]
        annotation, rest = arguments.get(field), message[found.end() :]
        if annotation is bool and given != "is":  # as in "--fresh is 'x': should be"
            return f"{field}={not name.startswith('--no-')}" + ("" if given is None else f" {given}")
        if given is None:
            return f"{field}="
        value = given if given.startswith("'") else given.rstrip(".,:;?)")
        end = given[len(value) :]
        if value in _WORDS_OF_SENTENCES:
            return f"{field}= {given}"
        is_last = end.startswith("?") or not (end + rest).strip(".?)") or rest.startswith(" --")
        if not _is_value(value, annotation) and not (is_last and annotation not in (int, float)):
            return f"{field}= {given}"
        is_number = _NUMBER.fullmatch(value) and "[str" not in str(annotation)
        word = shlex.split(value)[0]
        shown = value if is_number else repr(word)
        if annotation == list[str] and (several := split_list(word)) != (word,):
            shown = repr([*several])
        return f"{field}={shown}{end}" + ("," if rest.startswith(" --") and not end else "")

    first, _, rest = message.partition(" is ")
    if "dict" in str(arguments.get(first)):  # the command line has no option for it: search is missing
        message = f"{first}= is {rest}"
    return _NAMED.sub(replaced, message)


def _is_value(word: str, annotation: Any) -> bool:
    """Returns whether the word after an option is its value, whatever follows."""
    if get_origin(annotation) is Literal:
        return word in get_args(annotation)
    return bool(_NUMBER.fullmatch(word) or _BAND.fullmatch(word)) or word.startswith("'") or "/" in word
