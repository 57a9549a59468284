"""Wording of messages: reasons of errors, lists of names, counts, and text that is safe to print."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence

WITH_COMMA = re.compile(r"[+-]?\d+,\d{1,2}")
"""A number with a decimal comma, 4,5 as in most of Europe; 1,000 is a thousand elsewhere."""

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_UNSEEN = re.compile(
    "["
    "\0-\x08\x0b-\x1f\x7f-\x9f"  # control characters, which a terminal executes; except line feed and tab
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # direction marks, which reorder the text after them
    "\u2028\u2029"  # line and paragraph separators
    "\ud800-\udfff"  # bytes of a name that are not UTF-8: they cannot be printed
    "]"
)
_PASSWORD = re.compile(r"://[^\s/@]*:(?!\d*/)\S*@")
_TABLE_FILE = re.compile(r".*/lstm-ray/tables/table-([0-9a-f]{32})\.parquet")  # api/tables.py
_MOST_NAMED = 20
_MOST_COMPARED = 1000
_MOST_CHARACTERS = 200

_TEXTS = ("text", "review", "review_text", "review_body", "body", "content", "comment", "sentence", "tweet")
_RATINGS = ("stars", "star_rating", "rating", "review_rating", "score", "review_score", "overall")
_USUAL = {
    "--text-column": _TEXTS,
    "--label-column": ("label", "labels", "sentiment", "airline_sentiment", "polarity", *_RATINGS, "target", "class"),
    "--date-column": ("date", "timestamp", "time", "datetime", "created_at", "review_date"),
}
"""Names that columns usually have, by option."""


def reason(error: BaseException) -> str:
    """Returns an exception's message as one line, without Arrow's and Python's prefixes and Keras's colours."""
    if isinstance(error, OSError) and error.strerror:
        message = error.strerror
        if error.errno and error.errno > 0:  # negative if a host name cannot be resolved
            message = os.strerror(error.errno)  # Arrow's message repeats the path
        return message[0].lower() + message[1:]
    return without_passwords(" ".join(uncoloured(str(error)).split())) or type(error).__name__


def without_passwords(text: str) -> str:
    """Returns a text in which URLs have no passwords: of http://USER:PASSWORD@HOST, http://...@HOST is left."""
    return _PASSWORD.sub("://...@", text)


def uncoloured(text: str) -> str:
    """Returns a text without terminal colour codes."""
    return _COLOURS.sub("", text)


def visible(text: str) -> str:
    """Escapes characters that a terminal or a page would interpret instead of showing, such as \\u001b.

    Line feeds and tabs stay. In a JSON string the result means the same text.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def on_one_line(text: str) -> str:
    """Escapes the same characters as `visible`, and line feeds and tabs too."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def shown_path(path: str) -> str:
    """Returns a path for people: that of a table which a call from Python was given is "data frame 0a1b2c3d"."""
    found = _TABLE_FILE.fullmatch(path)
    return f"data frame {found[1][:8]}" if found else path


def named(names: Iterable[object]) -> str:
    """Returns names for a message, quoted and separated by commas: 'id', 'text'; the first 20 if there are more."""
    names = list(names)
    more = len(names) - _MOST_NAMED
    return ", ".join(shortened(repr(name)) for name in names[:_MOST_NAMED]) + (
        f" and {more:,} more" if more > 0 else ""
    )


def either(names: Iterable[object]) -> str:
    """Returns names as alternatives: train, score or evaluate."""
    *others, last = map(str, names)
    return f"{', '.join(others)} or {last}" if others else last


def join_list(values: Sequence[str]) -> str:
    """Returns texts as an option takes them, which `split_list` reads: one that has a comma is quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(values)
    return text.getvalue()


def no_column(
    name: str,
    names: Iterable[str],
    option: str = "",
    given: Sequence[str] = (),
    more: str = "",
    otherwise: str = "",
    possible: Collection[str] | None = None,
) -> str:
    """Returns that a column is missing, which there are, and what helps: the option with a similar or usual name.

    no column 'txt'; it has 'id', 'text': did you mean --text-column text?

    With columns `given` to the same option, all of them are proposed, this one corrected. `more` follows the option:
    another one that helps. `otherwise` is what helps if no column is similar; by default, to choose one.
    Of the columns, those that are `possible` may be proposed; by default all.
    """
    names = list(names)
    whole, _, part = name.partition(".")
    if part and whole in names:
        return f"no column {name!r}; it has {named(names)}: write {part!r} of {whole!r} to a column of its own"
    others = [one for one in names[:_MOST_COMPARED] if one not in given and len(one) <= _MOST_CHARACTERS]
    others = [one for one in others if possible is None or one in possible]
    similar = difflib.get_close_matches(name.lower(), [one.lower() for one in others], n=1)
    meant = next((one for one in others if [one.lower()] == similar), None) or usual_column(option, others)
    if meant is None:
        if option == "--label-column" and len(names) == 1:  # that of the texts
            otherwise = "to train or measure a model on these texts, add a column with a label for each"
        otherwise = otherwise or (f"choose with {option}" if option else "")
        remedy = f": {otherwise}" if otherwise else ""
    else:
        value = join_list([meant if one == name else one for one in given]) if given else meant
        remedy = f": did you mean {option} {quoted(value)}{more}?" if option else f": did you mean {meant!r}?"
    return f"no column {shortened(repr(name))}; it has {named(names) or 'none'}{remedy}"


def without_proposal(message: str) -> str:
    """Returns a message about a column or its labels without the proposal at its end, for one that has a better one."""
    return re.sub(r": (did you mean --.*\?|choose with --[\w-]+)$", "", message)


def usual_column(option: str, names: Iterable[str]) -> str | None:
    """Returns the column with the most usual name for an option, such as `Star Rating`; None if none has one."""
    columns: dict[str, str] = {}
    for name in names:
        words = re.sub("(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()  # reviewText
        columns.setdefault("_".join(re.findall(r"\w+", words)), name)
    for usual in _USUAL.get(option, ()):
        if usual in columns and f"{usual}_probability" not in columns:  # `sentiment` of scored rows is no label
            return columns[usual]
    return None


def shortened(text: str) -> str:
    """Returns a text for a message, cut after 200 characters."""
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def to_copy(name: str, placeholder: str) -> str:
    """Returns a name for a command to copy; the placeholder for one that is too long to be read."""
    return name if len(name) <= _MOST_CHARACTERS else placeholder


def as_call(name: str, values: Mapping[str, object]) -> str:
    """Returns a result for `repr`, floats in four digits: Evaluation(rows=1000, accuracy=0.8934)."""
    shown = {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


def command_line(*words: str) -> str:
    """Returns a command to copy: lstm-ray and its words, quoted where a shell would split them."""
    return quoted("lstm-ray", *words)


def quoted(*words: str) -> str:
    """Returns words as a shell reads them, on one line and without characters that a terminal would interpret.

    A word with such characters is written as $'te\\x1b[31mxt', as bash, zsh and ksh read it.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if on_one_line(word) == word:
        return shlex.quote(word)
    escaped = word.replace("\\", r"\\").replace("'", r"\'").replace("\n", r"\n").replace("\t", r"\t")
    return f"$'{_UNSEEN.sub(_in_shell, escaped)}'"


def _in_shell(found: re.Match[str]) -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:  # a byte of a name that is not UTF-8, as Python keeps it
        number -= 0xDC00
    elif number >= 0x80:
        return f"\\u{number:04x}"
    return f"\\x{number:02x}"


def counted(number: float, noun: str) -> str:
    """Returns a number with its noun: 1 file, 2 files, 0.5 CPUs."""
    shown = f"{number:g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown} {noun}" if number == 1 else f"{shown} {noun}s"


def are(number: float) -> str:
    """Returns the verb after a number with its noun: 1 file is, 2 files are."""
    return "is" if number == 1 else "are"


def in_words(name: str) -> str:
    """Returns the name of a metric or setting for people: log loss, AUC."""
    return {"auc": "AUC", "f1": "F1"}.get(name, name.replace("_", " "))
