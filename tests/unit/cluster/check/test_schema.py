"""CRD schemas as JSON Schema: strict about names, lenient where Kubernetes is."""

from __future__ import annotations

from typing import Any

import pytest

from lstm_ray.cluster.check.document import path_of
from lstm_ray.cluster.check.schema import check_schema, strict, without_nulls

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "filled", "list"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
        "filled": {"type": "integer", "default": 0},
        "size": {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": "^[0-9]+Gi$",
            "x-kubernetes-int-or-string": True,
        },
        "number": {"type": "integer", "format": "int32"},
        "mode": {"type": "string", "enum": ["on", "off"]},
        "maybe": {"type": "string", "nullable": True},
        "free": {
            "type": "object",
            "x-kubernetes-preserve-unknown-fields": True,
            "properties": {"a": {"type": "string"}},
        },
        "any": {"x-kubernetes-preserve-unknown-fields": True},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "list": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "object", "properties": {"port": {"type": "integer"}}},
        },
    },
}
GOOD: dict[str, Any] = {"name": "abc", "list": [{"port": 1}]}


def test_nothing_is_taken_not_to_be_there() -> None:
    content = {"name": None, "list": [{"port": None}, None], "free": {"a": None, "b": []}}
    assert without_nulls(content) == {"list": [{}, None], "free": {"b": []}}


def found(content: Any) -> dict[str, str]:
    """Returns what is said about each path."""
    findings = list(check_schema(content, strict(SCHEMA)))
    said = {path_of(finding.field): finding.message for finding in findings}
    assert len(said) == len(findings)
    return said


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"size": 3},
        {"size": "3Gi"},
        {"maybe": None},
        {"free": {"a": "x", "b": 1}},
        {"any": [1, {"x": 2}]},
        {"labels": {"x": "y"}},
        {"number": 2**31 - 1},
    ],
)
def test_what_kubernetes_takes_is_taken(more: dict[str, Any]) -> None:
    assert found({**GOOD, **more}) == {}


@pytest.mark.parametrize(
    ("more", "path", "message"),
    [
        ({"name": 5}, "name", "is 5; it should be a string"),
        ({"name": "ABC"}, "name", "is 'ABC'; it should match ^[a-z]+$"),
        ({"name": "abcdef"}, "name", "has 6 characters; it should have at most 5"),
        ({"size": [1]}, "size", "is a list; it should be an integer or a string"),
        ({"number": 2**31}, "number", "it should be at most 2147483647"),
        ({"number": True}, "number", "is true; it should be an integer"),
        ({"mode": "up"}, "mode", "is 'up'; choose one of on, off"),
        ({"maybe": 1}, "maybe", "it should be a string"),
        ({"free": {"a": 1}}, "free.a", "it should be a string"),
        ({"labels": {"x": 1}}, "labels.x", "it should be a string"),
        ({"list": []}, "list", "has 0 entries; it should have at least 1"),
        ({"list": [{"port": 1}, {"prt": 1}]}, "list[1].prt", "did you mean port?"),
        ({"list": "x"}, "list", "is 'x'; it should be a list"),
        ({"labls": {}}, "labls", "did you mean labels?"),
        ({"xyz": 1}, "xyz", "unknown field; remove it, or use one of any, filled, free"),
        ({"name": None}, "name", "is empty; it should be a string"),
    ],
)
def test_what_it_refuses_or_drops_is_a_mistake(more: dict[str, Any], path: str, message: str) -> None:
    said = found({**GOOD, **more})
    assert list(said) == [path]
    assert message in said[path]


def test_missing_fields_are_reported_one_by_one_unless_they_have_a_default() -> None:
    assert set(found({})) == {"name", "list"}
