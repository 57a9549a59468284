"""Text files made to hang, crash or fill the memory: each is an InputError that says what is wrong."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ConvertConfig, resolve
from lstm_ray.datasets.convert import Converted, json_lines, run, source
from lstm_ray.errors import InputError

pytestmark = pytest.mark.timeout(60)

HOSTILE: dict[str, tuple[bytes, str]] = {
    "deep_objects.jsonl": (b'{"a":' * 900 + b"1" + b"}" * 900, "line 1 is nested more than 40 deep"),
    "deep_lists.jsonl": (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "line 1 is nested more than 40 deep"),
    "deep_item.json": (b'[{}, {"a":' + b"[" * 100 + b"]" * 100 + b"}]", "item 2 is nested more than 40 deep"),
    "deeper.jsonl": (b"[" * 100_000, "maximum recursion depth"),
    "deepest.jsonl": (b'{"a":' * 200_000, "maximum recursion depth"),
    "wide.csv": (b",".join(b"c%d" % number for number in range(50_000)), "has 50,000 columns, more than 10,000"),
    "commas.csv": (b"," * 1_000_000, "has 1,000,001 columns, more than 10,000"),
    "tabs.tsv": (b"a\tb\n1\t2\n" + b"\t" * 1_000_000 + b"3", "line 3 has 1,000,001 values, expected 2"),
    "wide.jsonl": (json.dumps({f"c{n}": 1 for n in range(50_000)}).encode(), "has more than 1,000 columns"),
    "keys.jsonl": (b"".join(b'{"k%d":1}\n' % number for number in range(50_000)), "has more than 1,000 columns"),
    "items.json": (
        b"[" + b",".join(b'{"k%d":1}' % number for number in range(50_000)) + b"]",
        "has more than 1,000 columns",
    ),
    "twice.jsonl": (
        b"{" + b",".join(b'"c%d":1' % number for number in range(50_000)) + b',"c49999":1}',
        "key 'c49999' occurs twice",
    ),
    "long_key.jsonl": (b'{"' + b"k" * 100_000 + b'":1,"' + b"k" * 100_000 + b'":1}', "occurs twice"),
    "digits.jsonl": (b'{"a":' + b"9" * 5_000 + b"}", "Exceeds the limit"),
    "long_line.csv": (
        b"a,b\n" + b"x" * 3_000_000,
        "line 2 has more than 1 Mi characters, so it is hardly one review: write",
    ),
    "long_line.jsonl": (b'{"a":"' + b"x" * 3_000_000 + b'"}', "line 1 has more than 1 Mi characters"),
    "packed_line.csv.gz": (gzip.compress(b"a,b\n" + b"x" * 30_000_000), "line 2 has more than 1 Mi characters"),
    "packed_line.jsonl.bz2": (bz2.compress(b" " * 30_000_000), "line 1 has more than 1 Mi characters"),
    "open_quote.csv": (b'a,b\n"' + b"x,y\n" * 100_000, "begins a quoted value that never ends"),
    "no_zstd.csv.zst": (b"\x28\xb5\x2f\xfd" + b"\xff" * 50, "cannot be read"),
    "nul.csv": (b"\0" * 1000, "begins with NUL"),
    "nothing.jsonl": (b"\n \n", "is empty"),
}


def convert(path: Path, output: Path) -> Converted:
    """Converts a file."""
    return run.convert(resolve(ConvertConfig, {"source": path, "output": output}))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_text_file_made_to_harm_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(source, "LONGEST", 1 << 20)
    monkeypatch.setattr(json_lines, "MOST_COLUMNS", 1_000)
    monkeypatch.setattr("lstm_ray.datasets.convert.run.MOST_COLUMNS", 1_000)
    monkeypatch.setattr(json_lines, "_BLOCK_VALUES", 1 << 18)
    content, message = HOSTILE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as raised:
        convert(tmp_path / name, tmp_path / "out.parquet")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 500 + len(str(tmp_path))
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(("begin", "end"), [('{"a":', "}"), ('{"a":[', "]}")])
def test_what_is_nested_as_deep_as_allowed_can_be_read_again(tmp_path: Path, begin: str, end: str) -> None:
    levels = 40 if end == "}" else 20  # the row itself is the first
    (tmp_path / "deep.jsonl").write_text(begin * levels + "1" + end * levels, encoding="utf-8")
    convert(tmp_path / "deep.jsonl", tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 1


def test_rows_with_keys_of_their_own_are_read_in_small_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_BLOCK_VALUES", 1 << 14)
    rows = b"".join(b'{"text":"a","k%d":1}\n' % (number % 90) for number in range(900))
    (tmp_path / "sparse.jsonl").write_bytes(rows)
    made = convert(tmp_path / "sparse.jsonl", tmp_path / "out.parquet")
    assert (made.rows, len(made.columns)) == (900, 91)


def test_an_array_too_large_to_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "_MOST_OF_AN_ARRAY", 1 << 10)
    (tmp_path / "a.json").write_text("[" + ",\n".join(['{"a": 1}'] * 200) + "]", encoding="utf-8")
    with pytest.raises(InputError, match=r"the array has more than 0 Mi characters, .*: write one object a line"):
        convert(tmp_path / "a.json", tmp_path / "a.parquet")
