"""Untrusted YAML: what exceeds a limit is refused at once; the rest is read as PyYAML reads it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.bounded_yaml import BoundedLoader, check_bounds, read_yaml_text

LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'ha'] * 9)}]\n" for n in range(30))
MERGED = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}' if n else '{x: 1}'] * 9)}]}}\n" for n in range(30))

OUT_OF_BOUNDS = {
    "hexadecimal_digits": ("a: 0x" + "f" * 5_000, "not a int"),
    "laughs": (LAUGHS, "more than 200,000 values"),
    "merged": (MERGED, "more than 200,000 values"),
    "long_texts": ("a: &a " + "x" * 50_000 + "\nb: [" + "*a, " * 1000 + "]", "more than 200,000 values"),
    "in_itself": ("&a [*a]", "*a contains itself"),
    "in_itself_again": ("- &a 1\n- &a [*a]", "*a contains itself"),
    "in_its_value": ("&a {b: {c: *a}}", "*a contains itself"),
    "in_its_key": ("&a {? [*a] : b}", "*a contains itself"),
    "deep_lists": ("[" * 10_000, "nested more than 100 deep"),
    "deep_mappings": ("{a: " * 10_000, "nested more than 100 deep"),
    "deep_blocks": ("- " * 10_000 + "a", "nested more than 100 deep"),
    "deep_keys": ("? " * 10_000 + "a", "nested more than 100 deep"),
    "unknown_alias": ("*a", "undefined alias"),
    "day": ("2026-02-31", "not a timestamp"),
    "time": ("2026-01-01 25:00:00", "not a timestamp"),
    "no_time": ("!!timestamp soon", "not a timestamp"),
    "no_bool": ("!!bool maybe", "not a bool"),
    "no_int": ("!!int many", "not a int"),
    "empty_int": ("!!int ''", "not a int"),
    "empty_float": ("!!float ''", "not a float"),
    "digits": ("9" * 5000, "not a int"),
    "no_base64": ("!!binary é", "base64"),
    "python": ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    "control": ("a: \x1b]0;x\x07", "special characters are not allowed"),
    "list_as_key": ("? [a]\n: b", "unhashable key"),
}


@pytest.mark.parametrize("name", OUT_OF_BOUNDS)
def test_what_would_hang_or_crash_is_refused(name: str) -> None:
    text, message = OUT_OF_BOUNDS[name]
    with pytest.raises(yaml.YAMLError) as raised:
        yaml.load(text, BoundedLoader)
    assert message in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_what_is_within_bounds_is_read() -> None:
    deepest: Any = yaml.load("[" * 100 + "]" * 100, BoundedLoader)
    for _ in range(99):
        (deepest,) = deepest
    assert deepest == []
    assert yaml.load("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: [*a, *a]", BoundedLoader)["b"] == {"x": 1, "y": 2}
    check_bounds("[" + "1, " * 199_000 + "]", yaml.CSafeLoader)


def test_libyaml_s_reader_is_kept_from_crashing() -> None:
    with pytest.raises(yaml.YAMLError, match="nested more than 100 deep"):
        check_bounds("[" * 1_000_000, yaml.CSafeLoader)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="larger than 4 MiB"):
        read_yaml_text("/dev/zero")
    (tmp_path / "large.yaml").write_bytes(b"#" * (4 << 20))
    assert len(read_yaml_text(tmp_path / "large.yaml")) == 4 << 20


values = st.recursive(
    st.sampled_from(["1", "x", "''", "~", "*a", "*b", "&a 1", "&b x", "!!int x", "!!bool y", "2020-13-01"]),
    lambda inner: (
        st.builds(
            lambda anchor, items: f"{anchor} [{', '.join(items)}]",
            st.sampled_from(["", "&a", "&b"]),
            st.lists(inner, max_size=4),
        )
        | st.builds(
            lambda anchor, items: f"{anchor} {{{', '.join(f'{key}: {value}' for key, value in items)}}}",
            st.sampled_from(["", "&a", "&b"]),
            st.lists(st.tuples(st.sampled_from(["k", "m", "<<", "1", "*a "]), inner), max_size=4),
        )
    ),
    max_leaves=20,
)


def size(value: Any, around: tuple[int, ...] = ()) -> float:
    """Returns the values in a value, aliases written out; infinite if it contains itself."""
    if id(value) in around:
        return math.inf
    inner = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return 1 + sum(size(one, (*around, id(value))) for one in inner)


@given(values)
def test_any_yaml_is_read_as_pyyaml_reads_it_or_refused(text: str) -> None:
    try:
        expected: Any = yaml.safe_load(text)
    except Exception:  # noqa: BLE001  PyYAML raises ValueError, KeyError, AttributeError, ... besides its own
        expected = None
    try:
        found = yaml.load(text, BoundedLoader)
    except yaml.YAMLError:
        assert expected is None or size(expected) == math.inf or "<<: *a" in text, "merged into itself"
    else:
        assert found == expected
