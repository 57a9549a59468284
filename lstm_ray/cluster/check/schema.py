"""Checks a definition against a JSON schema, with messages for people who do not know the schema."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from lstm_ray.cluster.check.document import FieldPath, Finding

_INT_OR_STRING = ("integer", "string")  # no fractions: the API server accepts 0.5 only in quotes
_NAMES = {
    "object": "a mapping",
    "array": "a list",
    "string": "a string (in quotes if it looks like a number)",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def check_schema(content: Any, schema: dict[str, Any]) -> Iterator[Finding]:
    """Yields what `schema` does not allow in `content`, and what `content` lacks.

    Args:
        content: A definition.
        schema: JSON Schema, draft 7.
    """
    import jsonschema

    seen = set()  # two missing fields cause two errors, each of which names both
    for error in jsonschema.Draft7Validator(schema).iter_errors(content):
        for finding in _explained(error):
            if finding not in seen:
                seen.add(finding)
                yield finding


def _explained(error: Any) -> Iterator[Finding]:
    field: FieldPath = tuple(error.absolute_path)
    value, expected = error.instance, error.validator_value
    if error.validator == "type":
        wanted = expected if isinstance(expected, list) else [expected]
        yield Finding(field, f"is {_shown(value)}; it should be {' or '.join(_NAMES[name] for name in wanted)}")
    elif error.validator == "required":
        yield from (Finding((*field, name), "is missing; add it") for name in expected if name not in value)
    elif error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        yield from (Finding((*field, name), _unknown(name, known)) for name in value if name not in known)
    elif error.validator == "enum":
        choices = ", ".join(str(choice) for choice in expected if choice is not None)
        yield Finding(field, f"is {_shown(value)}; choose one of {choices}")
    elif error.validator in ("minimum", "maximum"):
        edge = "least" if error.validator == "minimum" else "most"
        yield Finding(field, f"is {_shown(value)}; it should be at {edge} {expected}")
    elif error.validator in ("minItems", "maxItems", "minLength", "maxLength"):
        edge = "least" if error.validator.startswith("min") else "most"
        what = "entries" if error.validator.endswith("Items") else "characters"
        yield Finding(field, f"has {len(value)} {what}; it should have at {edge} {expected}")
    elif error.validator == "pattern":
        is_amount = error.schema.get("type") == list(_INT_OR_STRING)  # in KubeRay's schema only amounts have both types
        remedy = "write an amount such as 2, 500m or 16Gi" if is_amount else f"it should match {expected}"
        yield Finding(field, f"is {_shown(value)}; {remedy}")
    elif error.validator in ("anyOf", "oneOf", "allOf") and error.context:
        yield from _explained(error.context[0])
    else:
        yield Finding(field, f"is {_shown(value)}; {error.message}")


def _unknown(name: str, known: Iterable[str]) -> str:
    """Returns the message about an unknown field."""
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        return f"unknown field; did you mean {close[0]}?"
    return f"unknown field; remove it, or use one of {', '.join(sorted(known))}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "empty" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def without_nulls(content: Any) -> Any:
    """Returns content without null fields, which Kubernetes treats as missing.

    Source: Kubernetes' structural schemas, "Defaulting and Nullable".
    """
    if isinstance(content, dict):
        return {name: without_nulls(value) for name, value in content.items() if value is not None}
    return [without_nulls(value) for value in content] if isinstance(content, list) else content


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Converts a CRD's schema into a JSON Schema that rejects unknown fields.

    A CRD does not forbid unknown fields: the API server drops them, or rejects them on request.

    Source: Kubernetes' structural schemas, x-kubernetes-int-or-string and -preserve-unknown-fields.
    """
    result: dict[str, Any] = {}
    if schema.get("x-kubernetes-int-or-string"):
        result["type"] = list(_INT_OR_STRING)
    elif "type" in schema:
        result["type"] = [schema["type"], "null"] if schema.get("nullable") else schema["type"]
    for word in ("enum", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength"):
        if word in schema:
            result[word] = schema[word]
    properties = schema.get("properties", {})
    if "required" in schema:  # Kubernetes fills in defaults before it checks
        result["required"] = [name for name in schema["required"] if "default" not in properties.get(name, {})]
    if "pattern" in schema:
        result["pattern"] = schema["pattern"]
    if schema.get("format") == "int32":
        result.setdefault("minimum", -(2**31))
        result.setdefault("maximum", 2**31 - 1)
    if "items" in schema:
        result["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = strict(schema["additionalProperties"])
    if properties:
        result["properties"] = {name: strict(inner) for name, inner in properties.items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    return result
