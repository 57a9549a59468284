"""Settings as YAML: job files, and the config.yaml in every output directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lstm_ray.bounded_yaml import BoundedLoader, read_yaml_text
from lstm_ray.config.base import (
    Settings,
    change_paths,
    command_of,
    fields_in_order,
    left_open,
    option_name,
    takes_pair,
    unknown_key,
)
from lstm_ray.errors import ConfigError
from lstm_ray.wording import reason

_MERGE = "tag:yaml.org,2002:merge"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")


class _Loader(BoundedLoader):
    """Reads YAML 1.1 with two changes; rejects duplicate keys.

    Integers are decimal: `actors: 2:8` is not 128, `epochs: 010` not 8, and the label 01 keeps its zero. Of booleans
    only true and false are read as such: labels are called yes and no. Settings that are integers or booleans take
    these words all the same.
    """

    def resolve(self, kind: Any, value: Any, implicit: Any) -> str:
        tag = str(super().resolve(kind, value, implicit))  # type: ignore[no-untyped-call]
        is_other_base = (tag == "tag:yaml.org,2002:int" and not _DECIMAL.fullmatch(value)) or (
            tag == "tag:yaml.org,2002:float" and ":" in value
        )
        is_word = tag == "tag:yaml.org,2002:bool" and value.lower() not in ("true", "false")
        return "tag:yaml.org,2002:str" if is_other_base or is_word else tag

    def compose_mapping_node(self, anchor: Any) -> Any:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen and key.tag != _MERGE:
                raise yaml.MarkedYAMLError(problem=f"duplicate key {key.value!r}", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return node


def load_job_file(path: str | Path) -> dict[Any, Any]:
    """Returns the unchecked content of a job file: settings, and optionally the `command` that it is for.

    Raises:
        ConfigError: The file is missing or is not a YAML mapping.
    """
    try:
        text = read_yaml_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot read the job file: {reason(error)}") from error
    try:
        content = yaml.load(text, _Loader)
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
        raise ConfigError(f"{path}: is a job for `{command}`, not for `{expected}`")
    try:
        settings = known_settings(kind, content)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    if content.keys() >= kind.model_fields.keys():  # written by `to_yaml`: null means None, not the preset's value
        settings |= dict.fromkeys(content.keys() - settings.keys())
    if content.get("preset", ...) is None:  # what older versions wrote, whose default was to have none
        settings["preset"] = "none"
    return settings


def known_settings(kind: type[Settings], content: Mapping[Any, Any], noun: str = "key") -> dict[str, Any]:
    """Returns the settings in a mapping that have a value; a message calls its keys by the noun.

    Raises:
        ConfigError: The mapping has an unknown key.
    """
    for key in content:
        if key not in kind.model_fields:
            raise ConfigError(unknown_key(key, kind, noun))
    return {key: value for key, value in content.items() if value is not None}  # `output:` with nothing after it


def job_file_schema(kind: type[Settings]) -> dict[str, Any]:
    """Returns the JSON Schema of a command's job files.

    A job file may contain `command`, a list of one written as its only value (`train: a.parquet`), numbers without
    quotes where a setting is a string (`workers: 2`), and pairs as lists (`unsure: [0.4, 0.6]`).
    """
    schema = kind.model_json_schema()
    command = {"const": command_of(kind), "description": "The command that the job file is for."}
    settings = {name: _schema_in_yaml(property_) for name, property_ in schema["properties"].items()}
    return {**schema, "properties": {"command": command, **settings}}


def _schema_in_yaml(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of a value as it is written in YAML."""
    types = {"array": ["array", "string", "number"], "string": ["string", "number"]}
    written = dict(schema)
    if takes_pair(schema):
        pair = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
        text = {key: written.pop(key) for key in ("type", "pattern") if key in written}
        return {**written, "anyOf": [*map(_schema_in_yaml, schema.get("anyOf", [text])), pair]}
    if "type" in schema:
        written["type"] = types.get(schema["type"], schema["type"])
    if "items" in schema:
        written["items"] = _schema_in_yaml(schema["items"])
    if "anyOf" in schema:
        written["anyOf"] = [_schema_in_yaml(choice) for choice in schema["anyOf"]]
    return written


def to_yaml(config: Settings) -> str:
    """Returns the settings as a job file that repeats the run, without settings that training still has to choose."""
    values = config.model_dump(mode="json", exclude=set(left_open(config)))
    ordered = {name: values[name] for name in fields_in_order(type(config)) if name in values}
    content = {"command": command_of(type(config)), **ordered}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    # PyYAML leaves U+0085 unescaped, and reads it as a line break.
    return text if "\x85" not in text else yaml.safe_dump(content, sort_keys=False)


def read_yaml(kind: type[Settings], content: bytes) -> dict[str, Any] | None:
    """Returns settings that `to_yaml` wrote, or None if `content` is something else.

    Settings that the writing version did not know get their defaults. So the default of a new setting must mean what
    older versions did.
    """
    settings = read_yaml_as_written(kind, content)
    if settings is None:
        return None
    plain = kind.model_validate({"preset": "none"} if "preset" in kind.model_fields else {})
    named = {} if settings.get("preset", ...) is not None else {"preset": "none"}
    return {**yaml.safe_load(to_yaml(plain)), **settings, **named}


def read_yaml_as_written(kind: type[Settings], content: bytes) -> dict[str, Any] | None:
    """Returns the same without settings that the writing version did not know."""
    try:
        settings = yaml.load(content, _Loader)
    except (yaml.YAMLError, UnicodeDecodeError):
        return None
    return settings if isinstance(settings, dict) and settings.get("command") == command_of(kind) else None


def changed_since(earlier: Mapping[str, Any], config: Settings, absolute: Callable[[str], str]) -> list[str]:
    """Returns the settings whose changes prevent an earlier run from being resumed.

    Args:
        earlier: The settings of that run, as `read_yaml` returned them.
        config: The current settings.
        absolute: Makes a path absolute. Older versions wrote paths as they were given.
    """
    kind = type(config)
    before = change_paths(kind, earlier, absolute)
    now = change_paths(kind, yaml.safe_load(to_yaml(config)), absolute)
    may_change = config.may_change()
    return [name for name in kind.model_fields if name not in may_change and before[name] != now[name]]


def describe_changes(names: Iterable[str], earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Returns, for a message, how settings differ from those of an earlier run, both as `read_yaml` returns them."""
    return ", ".join(f"{option_name(name)} {_show(earlier[name])} there, {_show(now[name])} here" for name in names)


def _show(value: Any) -> str:
    if value in (None, [], ""):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
