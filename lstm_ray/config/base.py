"""How a setting is declared, and how options, job files and presets become a configuration."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lstm_ray import user_code
from lstm_ray.errors import ConfigError
from lstm_ray.wording import reason

C = TypeVar("C", bound="Settings")

_NAMED = re.compile(r"`(\w+)`")


class Settings(BaseModel):
    """A frozen group of settings that knows no others.

    A validator that names settings in its message puts them in backquotes: `resolve` says what the user calls them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings to start from, by the name that the setting `preset` takes."""


FILES = "Input and output"
PANELS = (FILES, "Search", "Text", "Model", "Training", "Compute", "Cluster", "Nodes", "Access")
"""The groups of settings, in the order in which people read them."""


COUNT = r"^(0|[1-9]\d*)$|^[1-9]\d*:[1-9]\d*$"
"""A number of workers or actors: N or MIN:MAX."""


def limits_of(field: str, count: str) -> tuple[int, int]:
    """Returns the two numbers of MIN:MAX, or the one number twice."""
    least, _, most = count.partition(":")
    if int(least) > int(most or least):
        raise ValueError(f"`{field}` {count!r}: the first number is the least, the second the most")
    return int(least), int(most or least)


def setting(
    default: Any,
    sentence: str,
    *,
    panel: str,
    argument: bool = False,
    flag: bool = False,
    option: bool = True,
    metavar: str | None = None,
    path: Literal["input", "output"] | None = None,
    not_paths: str | None = None,
    may_change: Collection[str] | None = None,
    searchable: bool | None = None,
    fingerprint: Literal["value", "content", "nothing"] | None = None,
    resource: Literal["processes", "cpus", "gpus"] | None = None,
    only_for: Collection[str] | None = None,
    **limits: Any,
) -> Any:
    """Declares a setting, with everything that follows from it.

    Args:
        default: Its value if none is given.
        sentence: Its description in `--help`, with its unit.
        panel: Which of `PANELS` shows it.
        argument: True if it is an argument of the command line, not an option.
        flag: True for a boolean that is only ever turned on, so that it needs no --no-... option.
        option: False if only a job file can hold it.
        metavar: Shown for its value in `--help`; by default its type.
        path: "input" or "output" if its value is a path, or several; every path may be local or a URI.
        not_paths: Values of a path setting that are no paths, as a regular expression.
        may_change: Commands (train, tune) whose run is resumed although the setting has another value now.
        searchable: True if `tune` may draw its value.
        fingerprint: What of it decides the output of a scoring run: its "value", the "content" it names, or "nothing".
        resource: What it asks of a cluster: a number of "processes", or "cpus" or "gpus" of each.
        only_for: Providers that know it; all of them if not given.
        limits: ge=, le=, pattern=, ... as pydantic's `Field` takes them.
    """
    meaning = {
        "path": path,
        "not_paths": not_paths,
        "may_change": None if may_change is None else list(may_change),
        "searchable": searchable,
        "fingerprint": fingerprint,
        "resource": resource,
        "only_for": None if only_for is None else list(only_for),
    }
    extra: dict[str, Any] = {"panel": panel, "argument": argument, "flag": flag, "option": option, "metavar": metavar}
    extra |= {key: value for key, value in meaning.items() if value is not None}
    return Field(default, description=sentence, json_schema_extra=extra, **limits)


def meaning_of(kind: type[Settings], key: str) -> dict[str, Any]:
    """Returns what the settings declare under a key of `setting`, by name; those that do not declare it are absent.

    Example: meaning_of(ClusterConfig, "only_for") is {"region": ["aws", "gcp", "azure"], ...}.
    """
    return {name: shown_as(kind, name)[key] for name in kind.model_fields if key in shown_as(kind, name)}


def resolve(
    kind: type[C], options: Mapping[str, Any], job_file: str | Path | None = None, code: str | None = None
) -> C:
    """Builds a configuration from options, a job file and a preset, in that precedence.

    Where every setting is given, as in the config.yaml that a run leaves, the preset has nothing to say: it is not even
    looked up, so that the run goes on without the module that held its preset, and as it began.

    Args:
        kind: The configuration class.
        options: Settings the user gave on the command line; those not given are absent.
        job_file: YAML with settings by name; its `command` key, if any, says what the file is for.
        code: Directory of the user's modules, where a preset of their own may lie; None is the current directory.

    Raises:
        ConfigError: A setting is unknown, of the wrong type, out of its limits, or excluded by another; or there is no
            such preset.
    """
    from_file = read_job_file(kind, job_file) if job_file else {}
    given = {**from_file, **options}
    origin = _Origin(kind, options.keys(), from_file.keys(), job_file, given.get("preset"))
    base = {} if given.keys() >= kind.model_fields.keys() else origin.preset_settings(code)
    try:
        return kind.model_validate({**base, **given})
    except ValidationError as error:
        raise ConfigError(origin.explain(error, base.keys() - given.keys())) from error


class _JobFileLoader(yaml.SafeLoader):
    """Reads YAML 1.1 but for its numbers to the base 60: `actors: 2:8` would be 128."""

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        tag = str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        is_number = tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        return "tag:yaml.org,2002:str" if is_number and ":" in value else tag


def load_job_file(path: str | Path) -> dict[Any, Any]:
    """Returns what a job file holds, unchecked: settings, and perhaps the `command` that it is for.

    Raises:
        ConfigError: The file is missing or is not a YAML mapping.
    """
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), _JobFileLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the job file: {reason(error)}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {reason(error).replace('<unicode string>', 'the file')}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a job file is a mapping of settings, such as `epochs: 3`")
    return content


def read_job_file(kind: type[Settings], path: str | Path) -> dict[str, Any]:
    """Returns the settings in a job file, checked for unknown names.

    Raises:
        ConfigError: The file is missing, is not a YAML mapping, is for another command, or has an unknown key.
    """
    content = load_job_file(path)
    command = content.pop("command", None)
    expected = command_of(kind)
    if command not in (None, expected):
        raise ConfigError(f"{path}: is a job for `lstm-ray {command}`, not for `lstm-ray {expected}`")
    settings = _known_settings(kind, content, str(path))
    if content.keys() >= kind.model_fields.keys():  # what `to_yaml` wrote: here null is None, and not for a preset
        settings |= {key: kind.model_fields[key].get_default() for key in content.keys() - settings.keys()}
    return settings


def _known_settings(kind: type[Settings], content: Mapping[Any, Any], source: str) -> dict[str, Any]:
    """Returns the settings in a mapping that are given a value.

    Raises:
        ConfigError: It has an unknown key.
    """
    for key in content:
        if key not in kind.model_fields:
            raise ConfigError(f"{source}: {unknown_key(key, kind)}")
    return {
        key: (value,) if isinstance(value, str) and _takes_many(kind, key) else value
        for key, value in content.items()
        if value is not None  # `output:` with nothing after it: not given
    }


def unknown_key(key: Any, kind: type[Settings]) -> str:
    """Returns what to say about a key that a group of settings has not."""
    close = difflib.get_close_matches(str(key), kind.model_fields, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(sorted(kind.model_fields))}"
    return f"unknown key {str(key)!r}; {hint}"


def command_of(kind: type[Settings]) -> str:
    """Returns the command a configuration class belongs to: TrainConfig -> train."""
    return kind.__name__.removesuffix("Config").lower()


def option_name(field: str) -> str:
    """Returns the command-line option of a setting: max_tokens -> --max-tokens."""
    return "--" + field.replace("_", "-")


def argument_name(field: str) -> str:
    """Returns what stands in `--help` for a setting that is an argument: inputs -> INPUT."""
    return field.removesuffix("s").upper()


def _takes_many(kind: type[Settings], field: str) -> bool:
    return "tuple" in str(kind.model_fields[field].annotation)


@dataclass(frozen=True)
class _Origin:
    """Where the settings of a configuration came from, and so what they are called when something is wrong with them.

    Attributes:
        kind: The configuration class.
        options: Settings given on the command line.
        keys: Settings given in the job file.
        job_file: That file.
        preset: The preset's name, or MODULE:NAME; anything at all, as long as nobody has checked it.
    """

    kind: type[Settings]
    options: Collection[str]
    keys: Collection[str]
    job_file: str | Path | None
    preset: Any

    def preset_settings(self, code: str | None) -> Mapping[str, Any]:
        """Returns what the preset gives: one that comes along, or a mapping in a module of the user's.

        Args:
            code: Directory where that module may lie; None is the current directory.

        Raises:
            ConfigError: There is no such module or mapping, or it has an unknown setting.
        """
        if not isinstance(self.preset, str) or "preset" not in self.kind.model_fields:
            return {}
        if not user_code.is_named(self.preset):
            return self.kind.presets.get(self.preset, {})  # a name that is none of them is refused with the rest
        try:
            found = user_code.find(self.preset, lambda value: isinstance(value, Mapping), "mapping", code)
        except ConfigError as error:
            keys = self._keys_among({"preset"})
            where = f"{self.job_file}: " if keys else ""
            raise ConfigError(f"{where}{self._name('preset', keys)} is {self.preset!r}: {error}") from error
        if "preset" in found:
            raise ConfigError(f"preset {self.preset}: has the key 'preset': a preset cannot begin with another")
        return _known_settings(self.kind, found, f"preset {self.preset}")

    def explain(self, error: ValidationError, of_preset: Collection[str]) -> str:
        """Turns pydantic's findings into one line a person can act on.

        Args:
            error: The findings.
            of_preset: Settings that only the preset gave.
        """
        findings = [self._explain(dict(problem), set(of_preset)) for problem in error.errors()]
        is_files = any(keys for _, keys in findings)
        return (f"{self.job_file}: " if is_files else "") + "; ".join(finding for finding, _ in findings)

    def _explain(self, problem: dict[str, Any], of_preset: set[str]) -> tuple[str, set[str]]:
        """Returns a finding, and the settings in it that are called by their keys in the job file.

        What a validator of ours says has the names of settings in backquotes.
        """
        message = problem["msg"].removeprefix("Value error, ")
        place = list(map(str, problem["loc"]))
        fields = {*place[:1], *_NAMED.findall(message)} & set(self.kind.model_fields)
        keys = self._keys_among(fields - of_preset)
        names = {field: f"{field} (preset {self.preset})" for field in of_preset}
        names |= {field: self._name(field, keys) for field in fields - of_preset}
        for field in fields:
            message = message.replace(f"`{field}`", names[field])
        if not place:
            return message, keys
        message = message[0].lower() + message[1:]
        field = place[0]
        if problem["type"] == "string_pattern_mismatch":
            forms, examples = shown_as(self.kind, field)["metavar"], self.kind.model_fields[field].examples or []
            message = f"should be {forms.replace('|', ' or ')}, such as {' or '.join(map(str, examples))}"
        is_option = field not in self.kind.model_fields or shown_as(self.kind, field)["option"]
        name = names.get(field, self._name(field, keys)) if is_option else ".".join(place)
        return f"{name} is {problem['input']!r}: {message.removeprefix('input ')}", keys

    def _keys_among(self, fields: set[str]) -> set[str]:
        """Returns which of the settings in a finding to look for in the job file; one that is absent, beside others."""
        if fields & set(self.options):
            return fields & set(self.keys) - set(self.options)
        return fields if self.keys else set()

    def _name(self, field: str, keys: set[str]) -> str:
        if field in keys:
            return field
        is_argument = field in self.kind.model_fields and shown_as(self.kind, field)["argument"]
        return argument_name(field) if is_argument else option_name(field)


def fields_in_order(kind: type[Settings]) -> list[str]:
    """Returns the names of all settings as people read them: arguments first, then panel by panel."""

    def place(name: str) -> tuple[bool, int]:
        return not shown_as(kind, name)["argument"], PANELS.index(shown_as(kind, name)["panel"])

    return sorted(kind.model_fields, key=place)


def shown_as(kind: type[Settings], field: str) -> dict[str, Any]:
    """Returns how `--help` shows a setting: panel, argument, flag, option, metavar."""
    extra = kind.model_fields[field].json_schema_extra
    assert isinstance(extra, dict)
    return dict(extra)


def to_yaml(config: Settings) -> str:
    """Returns the resolved settings as a job file that repeats the run."""
    values = config.model_dump(mode="json")
    ordered = {name: values[name] for name in fields_in_order(type(config))}
    content = {"command": command_of(type(config)), **ordered}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    # PyYAML leaves U+0085 unescaped, and reads it as a line break.
    return text if "\x85" not in text else yaml.safe_dump(content, sort_keys=False)


def read_yaml(kind: type[Settings], content: bytes) -> dict[str, Any] | None:
    """Returns settings that `to_yaml` once wrote, or None if `content` is something else's.

    A setting that its version did not know yet has its default: that is what a new setting's default has to mean.
    """
    try:
        settings = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    if not isinstance(settings, dict) or settings.get("command") != command_of(kind):
        return None
    return {**yaml.safe_load(to_yaml(kind())), **settings}
