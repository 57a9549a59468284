"""The layout of `--help`: complete option names, each with its description beside or below it, even in 80 columns.

Typer's own tables split the width into five columns and cut off longer names.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from lstm_ray.cli.options import with_options_of_all
from lstm_ray.config import COUNTERPARTS
from lstm_ray.errors import ConfigError
from lstm_ray.wording import command_line, either, quoted, visible

UsageError: Any = typer.BadParameter.__base__  # Click's, or that of the copy of Click in Typer
_LOOKS_LIKE_OPTION = re.compile(r"-.*\s|-\d", re.DOTALL)  # but may be a text
_JOB_FILE = ("--config",)
_MAIN_INPUTS = ("--train", "--text", "--model")  # of commands that take no argument

_SENTENCE_COLUMN = 28
_COMMAND_COLUMN = 13
_MOST_COLUMNS = 100  # longer lines are hard to read


class Commands(typer.Typer):
    """A group of commands with this help layout."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            cls=_Group,
            rich_markup_mode=None,
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _MOST_COLUMNS},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Adds a command, with the options that all commands share."""
        add = super().command(name, cls=_Command, **settings)
        return lambda command: add(with_options_of_all(command))


class _Group(TyperGroup):
    """A group of commands whose help has a section for each panel of commands, with complete sentences.

    What Typer finds wrong with the command line is raised as ConfigError, so that all errors are shown in one form.
    """

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

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panel = getattr(command, "rich_help_panel", None)
            shown = panel if isinstance(panel, str) else "Commands"  # without one, Typer has a placeholder object
            panels.setdefault(shown, []).append((name, _first_paragraph(command)))
        for title, records in panels.items():
            formatter.write(f"\n{title}:\n")
            for name, sentence in records:
                formatter.write(_entry(name, sentence, formatter.width, _COMMAND_COLUMN) + "\n")


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


class _Command(TyperCommand):
    """A command whose help has a section for each panel of settings."""

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
            if type(error).__name__ == "MissingParameter" and not any(map(_is_argument, self.params)):
                self._refuse(ctx, self.make_parser(ctx).parse_args(given)[1])
            raise
        if not ctx.resilient_parsing:
            self._refuse(ctx, ctx.args)
        return rest

    def _refuse(self, ctx: Any, words: list[str]) -> None:
        """Ends with an error if there are words that are no options; it names the option that may be meant."""
        if not words:
            return
        meant = _JOB_FILE if words[0].endswith((".yaml", ".yml")) else _MAIN_INPUTS
        missing = [one for one in self.params if one.multiple or not ctx.params.get(one.name)]
        names = [name for one in missing for name in one.opts if name in meant]
        option = f"; did you mean {names[0]} {quoted(words[0])}?" if names else ""
        ctx.fail(visible(f"unexpected {' '.join(words)}{option}"))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the part of the usage line after the command."""
        arguments = [one for one in self.params if _is_argument(one)]
        return ["[OPTIONS]", *(_named(one) if one.required else f"[{_named(one)}]" for one in arguments)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Writes the description, and the example on one line, so that it can be copied."""
        for paragraph in (self.help or "").strip().split("\n\n"):
            is_example = paragraph.startswith("Example: ")
            formatter.write("\n" + (f"  {paragraph}" if is_example else _wrapped(paragraph, 2, formatter.width)) + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options, panel by panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda one: not _is_argument(one)):
            if record := parameter.get_help_record(ctx):
                is_argument = _is_argument(parameter)
                panel = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
                names = _named(parameter) if is_argument else record[0]
                sections.setdefault(panel, []).append((names, described(parameter)))
        for title, records in sections.items():
            formatter.write(f"\n{title}:\n")
            for names, sentence in records:
                formatter.write(_entry(names, sentence, formatter.width) + "\n")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _named(argument: Any) -> str:
    """Returns an argument's name, with dots if it may be given several times."""
    return str(argument.metavar) + ("..." if argument.nargs == -1 else "")


def commands_called(name: str, group: Any) -> list[list[str]]:
    """Returns the words of all commands of a name in a group and the groups in it: [["data", "convert"]]."""
    inner = getattr(group, "commands", {})
    below = ([word, *words] for word, one in inner.items() for words in commands_called(name, one))
    return [*([[name]] if name in inner else []), *below]


def described(parameter: Any) -> str:
    """Returns the description of an option or argument, with its default, or that it must be given.

    Those of settings are complete (`options.py`).
    """
    if parameter.required:
        return f"{parameter.help} (required)"
    if parameter.show_default and parameter.default not in (None, False):
        return f"{parameter.help} (default: {parameter.default})"
    return str(parameter.help)


def _mistaken_for(parameter: Any) -> set[str]:
    """Returns the options that an argument may be mistaken for; none for an option."""
    if not _is_argument(parameter):
        return set()
    name = str(parameter.name).replace("_", "-")
    return {f"--{name}", f"--{name.removesuffix('s')}"} | ({"--config"} if parameter.metavar == "JOB.yaml" else set())


def _names(ctx: Any) -> list[str]:
    """Returns the words of a command after `lstm-ray`: data, convert."""
    return [] if ctx.parent is None else [*_names(ctx.parent), str(ctx.info_name)]


def _first_paragraph(command: Any) -> str:
    """Returns the part of a command's description that lists of commands show."""
    return (command.help or "").strip().split("\n\n")[0].replace("\n", " ")


def _entry(names: str, sentence: str, width: int, column: int = _SENTENCE_COLUMN) -> str:
    """Returns an option or command with its sentence, which starts on the same line if there is room."""
    text = _wrapped(sentence, column, width)
    begin = f"  {names}"
    if len(begin) + 2 > column:
        return f"{begin}\n{text}"
    return begin.ljust(column) + text[column:]


def _wrapped(text: str, indent: int, width: int) -> str:
    """Wraps a text without breaking the names of options and files."""
    space = " " * indent
    return textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=space,
        subsequent_indent=space,
        break_on_hyphens=False,
        break_long_words=False,
    )
