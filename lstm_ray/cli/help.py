"""The layout of `--help`: complete option names, each with its description beside or below it, even in 80 columns.

Typer's own tables split the width into five columns and cut off longer names.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import typer

from lstm_ray.cli.options import with_options_of_all
from lstm_ray.cli.usage import CheckedCommand, CheckedGroup, is_argument

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


class _Group(CheckedGroup):
    """A group of commands whose help has a section for each panel of commands, with complete sentences."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands, panel by panel."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            panel = getattr(command, "rich_help_panel", None)
            shown = panel if isinstance(panel, str) else "Commands"  # Typer's default is a placeholder object
            panels.setdefault(shown, []).append((name, _first_paragraph(command)))
        for title, records in panels.items():
            formatter.write(f"\n{title}:\n")
            for name, sentence in records:
                formatter.write(_entry(name, sentence, formatter.width, _COMMAND_COLUMN) + "\n")


class _Command(CheckedCommand):
    """A command whose help has a section for each panel of settings."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Returns the part of the usage line after the command."""
        arguments = [one for one in self.params if is_argument(one)]
        return ["[OPTIONS]", *(_named(one) if one.required else f"[{_named(one)}]" for one in arguments)]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Writes the description, and the example on one line, so that it can be copied."""
        for paragraph in (self.help or "").strip().split("\n\n"):
            is_example = paragraph.startswith("Example: ")
            formatter.write("\n" + (f"  {paragraph}" if is_example else _wrapped(paragraph, 2, formatter.width)) + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options, panel by panel."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in sorted(self.get_params(ctx), key=lambda one: not is_argument(one)):
            if record := parameter.get_help_record(ctx):
                panel = "Arguments"
                names = _named(parameter)
                if not is_argument(parameter):
                    panel, names = getattr(parameter, "rich_help_panel", None) or "Options", record[0]
                sections.setdefault(panel, []).append((names, described(parameter)))
        for title, records in sections.items():
            formatter.write(f"\n{title}:\n")
            for names, sentence in records:
                formatter.write(_entry(names, sentence, formatter.width) + "\n")


def _named(argument: Any) -> str:
    """Returns an argument's name, with dots if it may be given several times."""
    return str(argument.metavar) + ("..." if argument.nargs == -1 else "")


def described(parameter: Any) -> str:
    """Returns the description of an option or argument, followed by its default, or by "required".

    The description of a setting already contains its default (`options.py`).
    """
    if parameter.required:
        return f"{parameter.help} (required)"
    if parameter.show_default and parameter.default not in (None, False):
        return f"{parameter.help} (default: {parameter.default})"
    return str(parameter.help)


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
