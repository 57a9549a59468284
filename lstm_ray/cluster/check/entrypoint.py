"""Checks a job's shell command: its lstm-ray command lines must be valid, and the cluster must have room for them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence

from lstm_ray.cluster.check.document import FieldPath, Finding
from lstm_ray.config import ScoreConfig, Settings, TrainConfig, TuneConfig, command_of
from lstm_ray.errors import ConfigError
from lstm_ray.runtime.room import Nodes, room
from lstm_ray.wording import counted

_SEPARATORS = ";&|()"
_PROGRAMS = ("lstm-ray", "lstm_ray")
# Shell keywords, and programs that run another program, which may precede a program's name.
_PREFIXES = ("!", "{", "if", "then", "else", "while", "do", "env", "exec", "nice", "nohup", "sudo", "time", "timeout")
_ASSIGNMENT = re.compile(r"\w+=")
_SUBSTITUTION = re.compile(r"\$\([^()]*\)|`[^`]*`")
_REDIRECTION = re.compile(r"(?<=\s)[\d&]?(>>?|<)(&\d|\s*[^\s'\";&|()]+)")

ParseCommand = Callable[[Sequence[str]], Settings | None]
"""Parses the words after `lstm-ray`. Returns the settings of train, tune, score or evaluate; None for other commands,
and if the settings depend on shell variables or a job file. Raises ConfigError if the words are not valid."""


def check_entrypoint(
    entrypoint: str, field: FieldPath, nodes: Sequence[Nodes] | None, parse: ParseCommand
) -> Iterator[Finding]:
    """Yields findings about the lstm-ray command lines in a job's shell command.

    Args:
        entrypoint: The shell command.
        field: Its field in the definition.
        nodes: The nodes that the job's cluster may have; None if the definition does not say.
        parse: Parses a command line of lstm-ray.
    """
    try:
        commands = shell_commands(entrypoint)
    except ValueError as error:
        yield Finding(field, f"is not a shell command: {str(error).lower()}; close the quotation")
        return
    for words in commands:
        arguments = _arguments(words)
        if arguments is None:
            continue
        try:
            settings = parse(arguments)
        except ConfigError as error:
            yield Finding(field, f"`lstm-ray {' '.join(arguments[:1])}` is wrong: {error}")
            continue
        if nodes is not None and isinstance(settings, TrainConfig | ScoreConfig):
            yield from _check_room(settings, field, nodes)


def _arguments(words: Sequence[str]) -> Sequence[str] | None:
    """Returns the words after `lstm-ray` if the command runs that program, otherwise None."""
    start = next((index for index, word in enumerate(words) if word.rsplit("/", 1)[-1] in _PROGRAMS), None)
    if start is None:
        return None
    before = [word for word in words[:start] if not _ASSIGNMENT.match(word)]
    is_run = not before or before[0] in _PREFIXES or before[-1] == "-m"  # excludes `pip install lstm-ray`
    return words[start + 1 :] if is_run else None


def shell_commands(lines: str) -> list[list[str]]:
    """Returns the words of each command in shell lines, without separators and redirections.

    Command substitutions have unknown output: `$(date)` becomes `$COMMAND`.

    Raises:
        ValueError: A quotation is not closed.
    """
    lines = _SUBSTITUTION.sub("$COMMAND", lines.replace("\\\n", " ").replace("\n", "\n;"))
    lexer = shlex.shlex(_REDIRECTION.sub("", lines), posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set(_SEPARATORS):
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def _check_room(settings: TrainConfig | ScoreConfig, field: FieldPath, nodes: Sequence[Nodes]) -> Iterator[Finding]:
    if isinstance(settings, TuneConfig):
        return  # a search runs as many trials at once as there is room for
    cpus: float
    gpus: float
    if isinstance(settings, TrainConfig):
        noun, (least, most) = "worker", settings.worker_limits
        cpus, gpus = settings.cpus_per_worker, settings.gpus_per_worker
    else:
        noun, (least, most) = "actor", settings.actor_limits
        cpus, gpus = settings.cpus_per_actor, settings.gpus_per_actor
    command = command_of(type(settings))
    if most == 0:
        yield Finding(field, f"lstm-ray {command} without --{noun}s runs only on the head; add it", "note")
        return
    if settings.address == "local":
        yield Finding(field, f"lstm-ray {command} would start its own Ray; add --address auto")
    held = room(nodes, cpus, gpus)
    size = counted(cpus, "core") + (f" and {counted(gpus, 'GPU')}" if gpus else "")
    if held < least:
        asked, remedy = f"asks for {counted(least, noun)} of {size}", "raise maxReplicas or the pods' limits"
        yield Finding(field, f"{asked}, but the groups have room for {held:g}; {remedy}")
    elif held < most:
        yield Finding(field, f"may use {counted(most, noun)} of {size}, but the groups have room for {held:g}", "note")
