"""Declaration of settings, and queries about the declarations."""

from __future__ import annotations

import difflib
import functools
import numbers
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from lstm_ray.errors import ConfigError
from lstm_ray.wording import shortened

C = TypeVar("C", bound="Settings")

FILES = "Input and output"
PANELS = (
    *(FILES, "CSV and TSV", "Training or test", "Threshold", "Search", "Text", "Model", "Training", "Compute"),
    *("Cluster", "Nodes", "Access"),
)
"""The groups of settings in `--help` and config.yaml, in display order."""

COUNT = r"^(0|[1-9]\d*)$|^[1-9]\d*:[1-9]\d*$"
"""A number of workers or actors: N or MIN:MAX."""

_MOST_NAMED = 25  # keys in a message; train has more than 80
_PAIR = re.compile(r"(?:LOW|MIN|X)([:,])(?:HIGH|MAX|X)")  # in the placeholder of a setting
_GROUPED = re.compile(r"[\s+-]*\d+([._]\d*)+\s*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")

BAND = r"^(0|1|0?\.\d+|1\.0+):(0|1|0?\.\d+|1\.0+)$"
"""Two probabilities, LOW:HIGH."""


class Settings(BaseModel):
    """An immutable group of settings.

    A validator that names settings in its message encloses them in backquotes; `resolve` replaces them by the names
    that the user knows, such as `--max-tokens`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read(cls, given: Any, info: ValidationInfo) -> Any:
        """Accepts path objects as strings, one string where a setting takes several, and a pair such as (0.4, 0.6).

        Raises:
            ValueError: A setting is an integer, and its value something else that pydantic would read as one: True,
                20.0, or a text such as 1.000, which is a thousand to many.
        """
        assert info.field_name is not None
        field, value = cls.model_fields[info.field_name], _without_path_objects(given)
        if field.annotation in (int, int | None) and (
            isinstance(value, bool | float) or (isinstance(value, str) and _GROUPED.fullmatch(value))
        ):
            is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
            more = ": digits only" if isinstance(value, str) else f": {value:.0f}" if is_whole else ""
            raise ValueError(f"should be an integer{more}")
        if isinstance(value, str) and is_list(field):
            return (value,)
        if isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value)):
            pair = takes_pair(field.json_schema_extra)
            return value if pair is None else pair[1].join(map(str, value))
        return value

    def may_change(self) -> set[str]:
        """Returns the settings that may have other values when the run is resumed."""
        command = command_of(type(self))
        return {name for name, commands in meaning_of(type(self), "may_change").items() if command in commands}


def is_list(field: FieldInfo) -> bool:
    """Returns whether a setting takes several texts, of which one alone is a text: not one that splits it (labels)."""
    return "tuple[str, ...]" in str(field.annotation) and not field.metadata


def argument_types(kind: type[Settings]) -> dict[str, Any]:
    """Returns the types of settings, by name: list[str] for texts of which several are separated by commas (labels)."""
    fields = kind.model_fields.items()
    return {
        name: list[str] if "tuple[str, ...]" in str(field.annotation) and not is_list(field) else field.annotation
        for name, field in fields
    }


def takes_pair(declared: Any) -> re.Match[str] | None:
    """Returns whether a setting is declared as two numbers in one text; group 1 is what separates them."""
    return _PAIR.search(str(declared.get("metavar"))) if isinstance(declared, dict) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)  # NumPy's numbers too


def _without_path_objects(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return type(value)(map(_without_path_objects, value)) if type(value) in (list, tuple) else value


def setting(
    default: Any,
    sentence: str,
    *,
    panel: str,
    argument: bool = False,
    flag: bool = False,
    option: bool = True,
    metavar: str | None = None,
    must_be_given: bool | None = None,
    path: Literal["input", "output"] | None = None,
    not_paths: str | None = None,
    may_change: Collection[str] | None = None,
    searchable: bool | None = None,
    fingerprint: Literal["value", "value if changed", "content", "nothing"] | None = None,
    only_for: Collection[str] | None = None,
    refused: Mapping[str, str] | None = None,
    from_data: bool | None = None,
    from_bundle: bool | None = None,
    only_in_training: bool | None = None,
    later: bool | None = None,
    **limits: Any,
) -> Any:
    """Declares a setting and its properties.

    Args:
        default: The default value.
        sentence: The description in `--help`, with the unit.
        panel: The one of `PANELS` that shows the setting.
        argument: True for an argument of the command line, not an option.
        flag: True for a boolean that can only be turned on, so that it needs no --no-... option.
        option: False if it can be set only in a job file.
        metavar: Placeholder for the value in `--help`; by default the type.
        must_be_given: True if the setting is required; its default is then empty.
        path: "input" or "output" if the value is a path, or several; a path is local or a URI.
        not_paths: Regular expression for values of a path setting that are not paths.
        may_change: Commands (train, tune) that may resume a run in which the setting had another value.
        searchable: True if `tune` may draw its value.
        fingerprint: What of it decides the output of a scoring run: its "value", the "content" it names, or "nothing".
            "value if changed" leaves the default out: of a setting that earlier versions did not know, it says what
            they did, and their unfinished runs can be resumed.
        only_for: Providers of clusters that know it; all of them if not given.
        refused: Commands that have it from another but cannot use it, with the reason. They do not show it, and refuse
            a value other than the default.
        from_data: True if the preset `best` chooses it for the training data.
        from_bundle: True if `train --from` takes it from the model that it begins with.
        only_in_training: True if a trained network does not depend on it, so that `train --from` may change it.
        later: True if bundles of earlier versions lack it. They computed what its default says, which must not change;
            with this default it is left out of a bundle, so that they can read it.
        limits: Arguments of pydantic's `Field`: ge=, le=, pattern=, ...
    """
    meaning = {
        "must_be_given": must_be_given,  # "required" would be JSON Schema's own, which is a list
        "path": path,
        "not_paths": not_paths,
        "may_change": None if may_change is None else list(may_change),
        "searchable": searchable,
        "fingerprint": fingerprint,
        "only_for": None if only_for is None else list(only_for),
        "refused": refused,
        "from_data": from_data,
        "from_bundle": from_bundle,
        "only_in_training": only_in_training,
        "later": later,
    }
    extra: dict[str, Any] = {"panel": panel, "argument": argument, "flag": flag, "option": option, "metavar": metavar}
    extra |= {key: value for key, value in meaning.items() if value is not None}
    return Field(default, description=sentence, json_schema_extra=extra, **limits)


_ALIKE = (
    ("fresh", "overwrite"),  # a run is begun anew (train, tune), or files are replaced (score, data, cluster)
    ("cpus_per_worker", "cpus_per_node"),  # of a Ray worker (train), or of a machine (cluster render)
    ("gpus_per_worker", "gpus_per_node"),
    ("memory_per_worker", "memory_per_node"),
)
_ELSEWHERE = {
    "lr": "learning_rate",
    "batch_size": "global_batch_size",
    "fraction": "test",
    "test_size": "test",
}  # what other programs call them

_OPTIONS_ONLY = {"train": ("dry_run",)}  # options of commands that are no settings

COUNTERPARTS = dict(_ALIKE) | {other: one for one, other in _ALIKE} | _ELSEWHERE
"""Settings by names that they do not have, but settings of other commands or programs: a message proposes them."""

learned = functools.partial(setting, may_change=(), searchable=True, from_bundle=True)
"""Declares a setting that decides what is learned: it cannot change during a run, and `tune` may draw it."""

fixed = functools.partial(setting, may_change=(), searchable=False)
"""Declares a setting that cannot change during a run, and that all trials of a search share."""

free = functools.partial(setting, may_change=("train", "tune"), searchable=False)
"""Declares a setting that only decides how a run is executed: it may change when the run is resumed."""


def shown_as(kind: type[Settings], field: str) -> dict[str, Any]:
    """Returns a setting's properties as declared: how `--help` shows it (panel, ...), and what it means (path, ...)."""
    extra = kind.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return dict(extra)


def meaning_of(kind: type[Settings], key: str) -> dict[str, Any]:
    """Returns the values that settings declare for a property, by name; settings that do not declare it are absent.

    Example: meaning_of(EvaluateConfig, "path") is {"inputs": "input", "model": "input", "output": "output"}.
    """
    return {name: shown_as(kind, name)[key] for name in kind.model_fields if key in shown_as(kind, name)}


def chosen_later(kind: type[Settings], values: Mapping[str, Any]) -> list[str]:
    """Returns the settings that training chooses if they are not given.

    With preset best these are the ones that it chooses for the data, with `from_` those of the model it begins with.
    """
    key = "from_bundle" if values.get("from_") else "from_data" if values.get("preset") == "best" else None
    return [] if key is None else [name for name, is_one in meaning_of(kind, key).items() if is_one]


def left_open(config: Settings) -> list[str]:
    """Returns the settings that training has yet to choose."""
    return [name for name in chosen_later(type(config), dict(config)) if name not in config.model_fields_set]


def paths_of(config: Settings) -> dict[str, list[str]]:
    """Returns the paths and URIs in settings, by name; settings without one are absent."""
    kind = type(config)
    values = {name: getattr(config, name) for name in meaning_of(kind, "path")}
    listed = {name: value if isinstance(value, tuple) else (value,) for name, value in values.items()}
    found = {name: [one for one in given if _is_path(kind, name, one)] for name, given in listed.items()}
    return {name: paths for name, paths in found.items() if paths}


def with_paths(config: C, change: Callable[[str], str]) -> C:
    """Returns the settings with every path and URI in them changed."""
    paths = {name: getattr(config, name) for name in paths_of(config)}  # only these: others would then count as given
    return config.model_copy(update=change_paths(type(config), paths, change))


def change_paths(kind: type[Settings], values: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Returns values of settings, by name, with every path and URI in them changed."""

    def changed(name: str, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(changed(name, one) for one in value)
        return change(value) if _is_path(kind, name, value) else value

    names = meaning_of(kind, "path")
    return {name: changed(name, value) if name in names else value for name, value in values.items()}


def _is_path(kind: type[Settings], name: str, value: Any) -> bool:
    """Returns whether a value of a path setting is a path, not empty or a keyword."""
    return isinstance(value, str) and not re.fullmatch(shown_as(kind, name).get("not_paths", ""), value)


def missing(kind: type[Settings], values: Mapping[str, Any]) -> list[str]:
    """Returns the required settings that have no value, or only empty ones, as of a shell variable that is not set."""
    return [name for name in meaning_of(kind, "must_be_given") if not any(values.get(name) or ())]


def check_complete(config: Settings) -> None:
    """Raises ConfigError if a required setting has no value."""
    for name in missing(type(config), dict(config)):
        raise ConfigError(f"{name_in_messages(type(config), name)} is missing")


def command_of(kind: type[Settings]) -> str:
    """Returns the command that a configuration class belongs to: TrainConfig -> train."""
    return kind.__name__.removesuffix("Config").lower()


def option_name(field: str) -> str:
    """Returns the command-line option of a setting: max_tokens -> --max-tokens, from_ -> --from."""
    return "--" + field.rstrip("_").replace("_", "-")


def as_option(field: str, value: Any) -> str:
    """Returns a setting with its value as an option to copy."""
    if isinstance(value, bool):
        return option_name(field) if value else option_name(f"no_{field}")
    return f"{option_name(field)} {value}"


def argument_name(field: str) -> str:
    """Returns what `--help` shows for a setting that is an argument: inputs -> INPUT."""
    return field.removesuffix("s").upper()


def name_in_messages(kind: type[Settings], field: str) -> str:
    """Returns what a message calls a setting: INPUT, --max-tokens."""
    return argument_name(field) if shown_as(kind, field)["argument"] else option_name(field)


def value_in_messages(value: Any) -> str:
    """Returns how a message shows the value of a setting: a number without quotes, also if it is an option's text."""
    return value if isinstance(value, str) and _NUMBER.fullmatch(value) else shortened(repr(value))


def fields_in_order(kind: type[Settings]) -> list[str]:
    """Returns the names of all settings in display order: arguments first, then panel by panel."""

    def order(name: str) -> tuple[bool, int]:
        return not shown_as(kind, name)["argument"], PANELS.index(shown_as(kind, name)["panel"])

    return sorted(kind.model_fields, key=order)


def unknown_key(key: Any, kind: type[Settings], noun: str = "key") -> str:
    """Returns a message about a key that a group of settings does not have; the noun is what it calls one."""
    if (other := COUNTERPARTS.get(key)) in kind.model_fields:
        return f"unknown {noun} {key!r}; {command_of(kind)} has {other!r}: {kind.model_fields[other].description}"
    options = _OPTIONS_ONLY.get(command_of(kind), ())
    close = difflib.get_close_matches(str(key), [*kind.model_fields, *options], n=1)
    if close and close[0] in options:
        hint = f"only the command line has it: lstm-ray {command_of(kind)} {option_name(close[0])}"
    elif close:
        hint = f"did you mean {close[0]!r}?"
    elif len(kind.model_fields) <= _MOST_NAMED:
        hint = f"known {noun}s: {', '.join(sorted(kind.model_fields))}"
    else:
        hint = f"`lstm-ray config schema {command_of(kind)}` prints all {len(kind.model_fields)} {noun}s"
    return f"unknown {noun} {shortened(repr(str(key)))}; {hint}"


def limits_of(field: str, count: str) -> tuple[int, int]:
    """Returns both numbers of MIN:MAX; for a single number N, returns N twice."""
    least, _, most = count.partition(":")
    if int(least) > int(most or least):
        raise ValueError(f"`{field}` {count!r}: the first number is the least, the second the most")
    return int(least), int(most or least)
