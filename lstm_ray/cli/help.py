"""The layout of `--help`: whole option names, each with its sentence beside or below, in 80 columns too.

Typer's own tables split the width into five columns, and cut off longer names.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from lstm_ray.cli import console
from lstm_ray.wording import visible

_UsageError: Any = typer.BadParameter.__base__  # Click's, or that of Typer's own copy of Click
_LOOKS_LIKE_OPTION = re.compile(r"-.*\s|-\d", re.DOTALL)  # but is a text

_SENTENCE_COLUMN = 28
_MOST_COLUMNS = 100  # longer lines are hard to read


class Commands(typer.Typer):
    """A group of commands with this help."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            rich_markup_mode=None,
            no_args_is_help=True,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": _MOST_COLUMNS},
            **settings,
        )

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """Adds a command."""
        return super().command(name, cls=_Command, **settings)


class _Command(TyperCommand):
    """A command whose help has a section for each panel of settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the command line.

        For a path without an option, the error names the option that takes it; for a text that looks like an option
        ("-5 stars"), it has a command that scores the text.
        """
        ctx.allow_extra_args = True
        given = list(args)
        try:
            rest: list[str] = super().parse_args(ctx, args)
        except _UsageError as error:
            error.message = visible(error.message)  # a shell's * may stand for names that a terminal obeys
            texts = [word for word in given if _LOOKS_LIKE_OPTION.match(word)]
            if texts and any(one.metavar == "TEXT..." for one in self.params):
                others = (word for word in given if word not in texts)
                command = visible(console.command_line(str(ctx.info_name), *others, "--", *texts))
                ctx.fail(f"{error.format_message().rstrip('.')}: a text that begins with - comes after --: {command}")
            raise
        if ctx.args and not ctx.resilient_parsing:
            option = next((f": --train {ctx.args[0]}?" for one in self.params if "--train" in one.opts), "")
            ctx.fail(visible(f"unexpected {' '.join(ctx.args)}{option}"))
        return rest

    def get_short_help_str(self, limit: int = 0) -> str:
        """Returns the first paragraph, not shortened: lists of commands wrap it."""
        return (self.help or "").strip().split("\n\n")[0].replace("\n", " ")

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Writes the description, and the example on one line, so that it can be copied."""
        for paragraph in (self.help or "").strip().split("\n\n"):
            is_example = paragraph.startswith("Example: ")
            formatter.write("\n" + (f"  {paragraph}" if is_example else _wrapped(paragraph, 2, formatter.width)) + "\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options under the names of their panels."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                names, sentence = record[0], record[1].replace("\\[", "[")  # some versions of Typer escape it for Rich
                panel = getattr(parameter, "rich_help_panel", None) or "Options"
                if parameter.param_type_name == "argument":
                    panel, names = "Arguments", str(getattr(parameter, "metavar", None) or names)
                sections.setdefault(panel, []).append((names, sentence))
        for title, records in sections.items():
            formatter.write(f"\n{title}:\n")
            for names, sentence in records:
                formatter.write(_entry(names, sentence, formatter.width) + "\n")


def _entry(names: str, sentence: str, width: int) -> str:
    """Returns an option with its sentence, which starts on the same line if there is room."""
    text = _wrapped(sentence, _SENTENCE_COLUMN, width)
    begin = f"  {names}"
    if len(begin) + 2 > _SENTENCE_COLUMN:
        return f"{begin}\n{text}"
    return begin.ljust(_SENTENCE_COLUMN) + text[_SENTENCE_COLUMN:]


def _wrapped(text: str, indent: int, width: int) -> str:
    """Returns a text in lines; names of options and files are not broken."""
    space = " " * indent
    return textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=space,
        subsequent_indent=space,
        break_on_hyphens=False,
        break_long_words=False,
    )
