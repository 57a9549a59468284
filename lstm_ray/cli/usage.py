"""Errors in a command line: the form of all other errors, with the option, argument or command that is meant."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lstm_ray.config import COUNTERPARTS, split_list
from lstm_ray.errors import ConfigError
from lstm_ray.wording import WITH_COMMA, command_line, either, join_list, quoted, visible

UsageError: Any = typer.BadParameter.__base__  # Click's, or that of the copy of Click in Typer
_LOOKS_LIKE_OPTION = re.compile(r"-.*\s|-\d", re.DOTALL)  # but may be a text
_JOB_FILE = ("--config",)
_MAIN_INPUTS = ("--train", "--text", "--model")  # of commands that take no argument


class CheckedGroup(TyperGroup):
    """A group of commands. What Typer finds wrong with the command line is raised as ConfigError."""

    def make_context(self, *given: Any, **extra: Any) -> Any:
        """Parses the words before the command."""
        with _usage_errors_as_ours():
            return super().make_context(*given, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Finds the command, parses its words and runs it."""
        with _usage_errors_as_ours():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the command that the first word names; an error names those of other groups: data convert."""
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            if found := commands_called(args[0], ctx.find_root().command):
                meant = either(command_line(*words) for words in found)
                error.message = f"No such command {args[0]!r}; did you mean {meant}?"
            raise


@contextmanager
def _usage_errors_as_ours() -> Iterator[None]:
    """Raises ConfigError in place of Typer's errors; without any word, Typer raises the help instead."""
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            raise
        message = str(error.format_message()).rstrip(".").replace(". Did you mean", "; did you mean")
        raise ConfigError(message[:1].lower() + message[1:]) from error


class CheckedCommand(TyperCommand):
    """A command. An error in its words names what may be meant."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line.

        If a path has no option, the error names the option for it; if an argument has one, or a text looks like an
        option ("-5 stars"), the error contains the command without it.
        """
        ctx.allow_extra_args = True
        given = list(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except UsageError as error:
            error.message = visible(error.message)  # a shell's * may expand to names with control characters
            unknown = str(getattr(error, "option_name", ""))
            if possible := getattr(error, "possibilities", None):  # the most similar first; the others rarely are
                error.message += f"; did you mean {possible[0]}?"
                error.possibilities = None
            other = COUNTERPARTS.get(unknown.removeprefix("--").replace("-", "_"), "")
            for one in self.params:
                if one.name == other:
                    ctx.fail(
                        visible(f"no such option {unknown}; did you mean {one.opts[0]}? {getattr(one, 'help', '')}")
                    )
            if (argument := next((one for one in self.params if unknown in _mistaken_for(one)), None)) is not None:
                words = (word.removeprefix(f"{unknown}=") for word in given if word != unknown)
                command = command_line(*_names(ctx), *words)
                ctx.fail(visible(f"no such option {unknown}: {argument.metavar} is an argument: {command}"))
            texts = [word for word in given if _LOOKS_LIKE_OPTION.match(word)]
            if texts and any(one.metavar == "TEXT" for one in self.params):
                others = (word for word in given if word not in texts)
                command = visible(command_line(str(ctx.info_name), *others, "--", *texts))
                ctx.fail(f"{error.format_message().rstrip('.')}: put a text that begins with - after --: {command}")
            if type(error).__name__ == "MissingParameter" and not any(map(is_argument, self.params)):
                self._refuse(ctx, given, self.make_parser(ctx).parse_args([*given])[1])
            raise
        if not ctx.resilient_parsing:
            self._refuse(ctx, given, ctx.args)
        return rest

    def _refuse(self, ctx: Any, given: list[str], words: list[str]) -> None:
        """Ends with an error if there are words that are no options; it names the option that may be meant."""
        if not words:
            return
        if (command := self._with_commas(given, words)) is not None:
            ctx.fail(visible(f"unexpected {' '.join(words)}: several are separated by commas: {command}"))
        if words[0].lower() in _SWITCHED:
            before = {one for one, word in itertools.pairwise(given) if word == words[0]}
            for names in ([*one.opts, *one.secondary_opts] for one in self.params if getattr(one, "is_flag", False)):
                if before & {*names}:
                    ctx.fail(visible(f"unexpected {words[0]}: {either(names)} takes no value"))
        meant = _JOB_FILE if words[0].endswith((".yaml", ".yml")) else _MAIN_INPUTS
        missing = [one for one in self.params if one.multiple or not ctx.params.get(one.name)]
        names = [name for one in missing for name in one.opts if name in meant]
        option = f"; did you mean {names[0]} {quoted(words[0])}?" if names else ""
        ctx.fail(visible(f"unexpected {' '.join(words)}{option}"))

    def _with_commas(self, given: list[str], words: list[str]) -> str | None:
        """Returns an option whose value the first of the words follows, with these as the option takes several."""
        options = {name for one in self.params if _takes_several(one) for name in one.opts}
        starts = (at for at, word in enumerate(given) if at > 1 and word == words[0] and given[at - 2] in options)
        if (start := next(starts, None)) is None:
            return None
        values = [given[start - 1], *itertools.takewhile(words.__contains__, given[start:])]
        if not all(map(WITH_COMMA.fullmatch, values)):  # else a comma is part of a value
            values = [value for word in values for value in split_list(word)]
        return f"{given[start - 2]} {quoted(join_list(values))}"


_SWITCHED = ("yes", "no", "true", "false", "on", "off", "1", "0")
"""What may be meant as the value of an option that takes none."""


def is_argument(parameter: Any) -> bool:
    """Returns whether a parameter is an argument; else it is an option."""
    return bool(parameter.param_type_name == "argument")


def _takes_several(parameter: Any) -> bool:
    """Returns whether an option takes several values in one word, such as LABEL,..."""
    return str(parameter.metavar).endswith(",...")


def commands_called(name: str, group: Any) -> list[list[str]]:
    """Returns the words of all commands of a name in a group and the groups in it: [["data", "convert"]]."""
    inner = getattr(group, "commands", {})
    below = ([word, *words] for word, one in inner.items() for words in commands_called(name, one))
    return [*([[name]] if name in inner else []), *below]


def _mistaken_for(parameter: Any) -> set[str]:
    """Returns the options that an argument may be mistaken for; none for an option."""
    if not is_argument(parameter):
        return set()
    name = str(parameter.name).replace("_", "-")
    return {f"--{name}", f"--{name.removesuffix('s')}"} | ({"--config"} if parameter.metavar == "JOB.yaml" else set())


def _names(ctx: Any) -> list[str]:
    """Returns the words of a command after `lstm-ray`: data, convert."""
    return [] if ctx.parent is None else [*_names(ctx.parent), str(ctx.info_name)]
