"""Builds a configuration from options, a job file and a preset."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lstm_ray.config.base import (
    BAND,
    Settings,
    chosen_later,
    name_in_messages,
    option_name,
    shown_as,
    value_in_messages,
)
from lstm_ray.config.job_file import read_job_file
from lstm_ray.config.presets import preset_of, with_preset
from lstm_ray.errors import ConfigError

C = TypeVar("C", bound=Settings)

_NAMED = re.compile(r"`(\w+)`")
_LEAST_PERCENT = 5  # a smaller number without % is not taken for a percentage: 2 may be a typo of 0.2


def resolve(
    kind: type[C], options: Mapping[str, Any], job_file: str | Path | None = None, code: str | None = None
) -> C:
    """Builds a configuration. Precedence: option, job file, preset, default.

    Args:
        kind: The configuration class.
        options: Settings given on the command line; those not given are absent.
        job_file: YAML file with settings by name; its `command` key, if any, names the command that it is for.
        code: Directory of the user's modules, which may contain a preset; None is the current directory.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of its limits, or in conflict with another; or there
            is no such preset.
    """
    from_file = read_job_file(kind, job_file) if job_file else {}
    given = {**from_file, **options}
    name = preset_of(kind, given)
    origin = _Origin(kind, options.keys(), from_file.keys(), job_file, name)
    try:
        settings = with_preset(kind, given, code)
    except ConfigError as error:
        raise ConfigError(f"{origin.of_preset()} is {name!r}: {error}") from error
    # Passing every setting prevents validation from looking up the user's preset again.
    left_out = chosen_later(kind, settings)
    defaults = {field: info.get_default() for field, info in kind.model_fields.items() if field not in left_out}
    try:
        return kind.model_validate({**defaults, **settings})
    except ValidationError as error:
        raise ConfigError(origin.explain(error, settings.keys() - given.keys() - {"preset"})) from error


@dataclass(frozen=True)
class _Origin:
    """Where settings came from, which decides how messages name them.

    Attributes:
        kind: The configuration class.
        options: Settings given on the command line.
        keys: Settings given in the job file.
        job_file: The job file.
        preset: The preset's name, unchecked: anything that a job file can hold.
    """

    kind: type[Settings]
    options: Collection[str]
    keys: Collection[str]
    job_file: str | Path | None
    preset: Any

    def of_preset(self) -> str:
        """Returns how a message names the setting `preset`, with the job file if it was given there."""
        keys = self._keys_among({"preset"})
        return (f"{self.job_file}: " if keys else "") + self._name("preset", keys)

    def explain(self, error: ValidationError, from_preset: Collection[str]) -> str:
        """Returns pydantic's findings as a one-line message for the user.

        Args:
            error: The findings.
            from_preset: Settings that only the preset gave.
        """
        findings = [self._explain(dict(problem), set(from_preset)) for problem in error.errors()]
        names_keys = any(keys for _, keys in findings)
        return (f"{self.job_file}: " if names_keys else "") + "; ".join(finding for finding, _ in findings)

    def _explain(self, problem: dict[str, Any], from_preset: set[str]) -> tuple[str, set[str]]:
        """Returns a finding as a message, and the settings in it that are named as keys of the job file.

        The messages of our validators enclose the names of settings in backquotes.
        """
        message = problem["msg"].removeprefix("Value error, ")
        path = list(map(str, problem["loc"]))
        fields = {*path[:1], *_NAMED.findall(message)} & set(self.kind.model_fields)
        keys = self._keys_among(fields - from_preset)
        names = {field: f"{field} (preset {self.preset})" for field in from_preset}
        names |= {field: self._name(field, keys) for field in fields - from_preset}
        for field in fields:
            message = message.replace(f"`{field}`", names[field])
        if not path:
            return message, keys
        message = message[0].lower() + message[1:]
        field = path[0]
        examples = [] if field not in self.kind.model_fields else self.kind.model_fields[field].examples or []
        if problem["type"] in ("string_pattern_mismatch", "string_type") and examples:
            forms = shown_as(self.kind, field)["metavar"]
            message = f"should be {forms.replace('|', ' or ')}, such as {' or '.join(map(str, examples))}"
        if problem["type"] == "float_parsing":
            with_point = str(problem["input"]).replace(",", ".")
            message = "should be a number" + (f", with a point: {with_point}" if _is_float(with_point) else "")
        if field in self.kind.model_fields and (share := _as_shares(self.kind, field, str(problem["input"]))):
            message = f"{message.partition(', ')[0]}: did you mean {share}?"
        if problem["type"] == "int_parsing":
            message = "should be an integer: digits only"
        if problem["type"] == "tuple_type":
            is_path = "path" in shown_as(self.kind, field)
            message = f"should be a {'path' if is_path else 'string'}, or several"
        if problem["type"] in ("bool_parsing", "bool_type"):
            message = f"should be {'true or false' if field in keys else 'True or False'}"
        if problem["type"] == "dict_type":
            message = "should be a mapping"
        is_option = field not in self.kind.model_fields or shown_as(self.kind, field)["option"]
        name = names.get(field, self._name(field, keys)) if is_option else ".".join(path)
        return f"{name} is {value_in_messages(problem['input'])}: {message.removeprefix('input ')}", keys

    def _keys_among(self, fields: set[str]) -> set[str]:
        """Returns the settings of a finding that a message names as keys of the job file.

        If none of the settings was given as an option, it names all of them so, including those that were not given.
        """
        if fields & set(self.options):
            return fields & set(self.keys) - set(self.options)
        return fields if self.keys else set()

    def _name(self, field: str, keys: set[str]) -> str:
        if field in keys:
            return field
        return name_in_messages(self.kind, field) if field in self.kind.model_fields else option_name(field)


def _as_shares(kind: type[Settings], field: str, given: str) -> str | None:
    """Returns percentages as shares, 70 or 70% as 0.7 and 40:60 as 0.4:0.6; None if the setting is neither."""
    declared = kind.model_fields[field]
    is_float = declared.annotation in (float, float | None)
    is_share = is_float and any(getattr(limit, name, 2) <= 1 for limit in declared.metadata for name in ("lt", "le"))
    is_band = any(getattr(limit, "pattern", None) == BAND for limit in declared.metadata)
    numbers = [part.strip().removesuffix("%") for part in given.split(":")]
    is_expected = (is_share and len(numbers) == 1) or (is_band and len(numbers) == 2)
    if not is_expected or not all(_is_float(number) and 2 <= float(number) < 100 for number in numbers):
        return None
    low_to_high = sorted(map(float, numbers))
    if "%" not in given and low_to_high[-1] < _LEAST_PERCENT:
        return None
    return ":".join(f"{number / 100:g}" for number in low_to_high)


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
