"""What a command of lstm-ray asks of a cluster."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

# Options that say how many: those of the command, then cores and GPUs of each. Source: lstm_ray.config.
_OPTIONS = {
    "train": ("--workers", "--cpus-per-worker", "--gpus-per-worker"),
    "score": ("--actors", "--cpus-per-actor", "--gpus-per-actor"),
}
_SEPARATORS = ";&|()"


@dataclass(frozen=True)
class Demand:
    """What one command asks for.

    Attributes:
        command: train or score.
        least: Workers or actors that there must be.
        most: Those that may be.
        cpus: Cores of each.
        gpus: GPUs of each.
        address: Which Ray it joins; "local" starts one, "" is whatever its job file says.
    """

    command: str
    least: int
    most: int
    cpus: float
    gpus: float
    address: str

    @property
    def noun(self) -> str:
        """Returns what they are called."""
        return "workers" if self.command == "train" else "actors"


def demands(entrypoint: str) -> list[Demand]:
    """Returns what the commands of lstm-ray in shell lines ask for; those that cannot be read are left out."""
    lines = entrypoint.replace("\\\n", " ").replace("\n", ";")
    lexer = shlex.shlex(lines, posix=True, punctuation_chars=_SEPARATORS)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an open quote: the shell will say so
        return []
    found = []
    start = 0
    for end in range(len(words) + 1):
        if end == len(words) or set(words[end]) <= set(_SEPARATORS):
            demand = _demand(words[start:end])
            found += [demand] if demand else []
            start = end + 1
    return found


def _demand(words: list[str]) -> Demand | None:
    programs = (place for place, word in enumerate(words) if word.rsplit("/", 1)[-1] in ("lstm-ray", "lstm_ray"))
    command = next((word for word in words[next(programs, len(words)) + 1 :] if not word.startswith("-")), "")
    if command not in _OPTIONS:
        return None
    many, cpus, gpus = _OPTIONS[command]
    has_file = _value(words, "--config") is not None
    if has_file and _value(words, many) is None:
        return None  # what the file says is not known here
    number = re.fullmatch(r"(\d+)(?::(\d+))?", _value(words, many) or "0")
    try:
        if number:
            return Demand(
                command,
                int(number[1]),
                int(number[2] or number[1]),
                float(_value(words, cpus) or 1),
                float(_value(words, gpus) or 0),
                _value(words, "--address") or ("" if has_file else "local"),
            )
    except ValueError:
        pass  # a shell variable
    return None


def _value(words: list[str], option: str) -> str | None:
    """Returns what an option is given, as --option value or --option=value."""
    for position, word in enumerate(words):
        if word == option and position + 1 < len(words):
            return words[position + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None
