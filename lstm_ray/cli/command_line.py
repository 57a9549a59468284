"""Parses a command line of lstm-ray without running it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from lstm_ray.cli.options import as_setting
from lstm_ray.cli.usage import UsageError, commands_called
from lstm_ray.config import COMMANDS, Settings, missing, name_in_messages, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.wording import either


def parse_command_line(program: Any, words: Sequence[str]) -> Settings | None:
    """Returns the settings that a command line gives.

    Args:
        program: The command of the whole program.
        words: The words after the program's name, as in a cluster definition: a shell on another machine runs them.

    Returns:
        None for commands without settings, and if the settings depend on a job file, a shell variable or user code,
        which are known only where the command runs. If the other options are complete without it, a missing address is
        assumed to be "auto": the job file may give one.

    Raises:
        ConfigError: The command or an option is unknown, or a setting is missing or invalid.
    """
    command, context, name = program, typer.Context(program), ""
    try:
        given, words, _ = command.make_parser(context).parse_args(list(words))
        while words and hasattr(command, "commands"):
            name = f"{name} {words[0]}".strip()
            if words[0] not in command.commands:
                raise ConfigError(_unknown_command(words[0], command.commands, program))
            command = command.commands[words[0]]
            context = typer.Context(command, parent=context)
            given, words, _ = command.make_parser(context).parse_args(words[1:])
    except UsageError as error:
        raise ConfigError(error.format_message().rstrip(".")) from error
    if words:
        raise ConfigError(f"unexpected {' '.join(words)}")
    kind = COMMANDS.get(name.rpartition(" ")[2])  # data convert -> convert
    return None if kind is None or given.get("help") else _settings(kind, given)


def _settings(kind: type[Settings], given: Mapping[str, Any]) -> Settings | None:
    options = {
        name: as_setting(kind, name, value)
        for name, value in given.items()
        if name in kind.model_fields and isinstance(value, str | bool | list | tuple) and value != ()
    }
    job_file = given.get("config")
    if not job_file and (absent := missing(kind, options)):
        raise ConfigError(f"{name_in_messages(kind, absent[0])} is missing")
    known = {name: value for name, value in options.items() if not _is_open(kind, name, value)}
    if not job_file and known == options:
        return resolve(kind, options)
    try:
        return resolve(kind, known if "address" not in kind.model_fields else {"address": "auto", **known})
    except ConfigError:
        return None  # not an error: the values that are unknown here may make the settings valid


def _is_open(kind: type[Settings], name: str, value: Any) -> bool:
    """Returns whether a value is known only where the command runs, and may make the settings invalid.

    A shell variable in a path cannot: any path is valid.
    """
    if name == "preset":
        from lstm_ray import user_code

        return user_code.is_named(value)
    field = kind.model_fields[name]
    is_free = field.annotation in (str, str | None, tuple[str, ...]) and not field.metadata
    return not is_free and "$" in str(value)


def _unknown_command(name: str, known: Mapping[str, Any], program: Any) -> str:
    close = [" ".join(words) for words in commands_called(name, program)] or difflib.get_close_matches(name, known, n=1)
    return f"no command {name!r}; " + (
        f"did you mean {either(close)}?" if close else f"choose one of {', '.join(known)}"
    )
