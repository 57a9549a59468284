"""Damaged, encrypted and hostile Parquet: one error that names the file, and no rows to plan for."""

from __future__ import annotations

import base64
import gzip
import os
import pickle
import sqlite3
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.orc as orc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm_ray.config import ScoreConfig
from lstm_ray.datasets.labelled import find_shards, read_shard
from lstm_ray.datasets.unlabelled import find_text_shards
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.score.plan import make_plan
from lstm_ray.storage import parquet as parquet_files
from lstm_ray.storage.inputs import find_file, find_inputs
from lstm_ray.storage.parquet import check_int96, decoded_bytes, open_parquet, read_footer, reading

encryption: Any = pytest.importorskip("pyarrow.parquet.encryption", reason="pyarrow without encryption")


USES: dict[str, Callable[[str], object]] = {
    "score": lambda path: make_plan(ScoreConfig(inputs=(path,)), "hash"),
    "train": lambda path: find_shards([path], "text", "label"),
    "vectors": lambda path: find_text_shards([path], "text"),
}
ROWS = 1000


def write(path: Path, table: pa.Table | None = None) -> Path:
    labels = {"text": [f"text {row}" for row in range(ROWS)], "label": [row % 2 for row in range(ROWS)]}
    pq.write_table(pa.table(labels) if table is None else table, path, store_schema=False)
    return path


def varint(number: int) -> bytes:
    """Returns an integer as Thrift's compact protocol writes it: zigzag, seven bits a byte, lowest first."""
    zigzag, encoded = (number << 1) ^ (number >> 63), bytearray()
    while zigzag > 127:
        encoded.append(zigzag & 127 | 128)
        zigzag >>= 7
    return bytes([*encoded, zigzag])


def with_footer(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = change(content[start:-8])
    return content[:start] + footer + len(footer).to_bytes(4, "little") + content[-4:]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("claimed", [2**62, 2**40, 2**28 + 1, 300_000_000, -1, -(2**40)])
def test_rows_that_a_file_cannot_hold_are_not_planned_for(tmp_path: Path, use: str, claimed: int) -> None:
    path = write(tmp_path / "claims.parquet")
    content = path.read_bytes()
    path.write_bytes(with_footer(content, lambda footer: footer.replace(varint(ROWS), varint(claimed))))
    with pytest.raises(InputError, match=rf"claims\.parquet: (row group 0 has {claimed:,} rows|not a Parquet file)"):
        USES[use](str(path))


def test_a_column_of_one_value_may_have_many_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "one.parquet", pa.table({"text": pa.repeat("good", 3_000_000)}))
    assert path.stat().st_size < 30_000
    assert make_plan(ScoreConfig(inputs=(str(path),)), "hash").rows == 3_000_000


def change_name(name: bytes) -> Callable[[bytes], bytes]:
    return lambda footer: footer.replace(b"\x05label", bytes([len(name)]) + name)


NO_PARQUET: dict[str, bytes] = {
    "empty": b"",
    "magic": b"PAR1",
    "magic_twice": b"PAR1PAR1",
    "no_footer": b"PAR1" + b"\0" * 100 + b"PAR1",
    "footer_beyond": b"PAR1" + b"\xff" * 8 + b"\xff\xff\xff\x7fPAR1",
    "footer_of_nothing": b"PAR1" + b"\0\0\0\0PAR1",
    "nested_footer": b"PAR1" + b"\x1c" * 60_000 + (60_000).to_bytes(4, "little") + b"PAR1",
    "list_without_end": b"PAR1" + b"\x29\xfc\xff\xff\xff\xff\x07" + (7).to_bytes(4, "little") + b"PAR1",
    "csv": b"text,label\na,1\n",
    "zeros": b"\0" * 10_000,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", NO_PARQUET)
def test_what_is_not_parquet_is_named(tmp_path: Path, use: str, name: str) -> None:
    (tmp_path / "odd.parquet").write_bytes(NO_PARQUET[name])
    with pytest.raises(InputError, match=r"odd\.parquet: not a Parquet file"):
        USES[use](str(tmp_path / "odd.parquet"))


def test_a_file_of_another_format_is_named_with_what_helps(tmp_path: Path) -> None:
    table = pa.table({"text": ["good", "bad"], "label": [1, 0]})
    feather.write_feather(table, str(tmp_path / "a"))
    orc.write_table(table, str(tmp_path / "b"))
    (tmp_path / "c").write_bytes(gzip.compress(b"text\n"))
    (tmp_path / "d").write_text("\ufefftext,label\r\ngööd,1\r\n" * 9, encoding="utf-8")
    (tmp_path / "f").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    (tmp_path / "e").write_bytes(b"\0\1" * 90)
    (tmp_path / "g").write_bytes(b"\xff\x80\x9a\xb2" * 40)
    whole = write(tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "i").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "h").write_bytes("ORCID,texte\n1,très déçu\n".encode("latin-1"))
    (tmp_path / "j").write_bytes(pickle.dumps([1]))
    sqlite3.connect(tmp_path / "k").execute("CREATE TABLE reviews (text)").connection.close()
    (tmp_path / "p").write_bytes(whole[:4])
    (tmp_path / "n").write_text("<?xml version='1.0'?>\n<Error><Code>NoSuchKey</Code></Error>", encoding="utf-8")
    (tmp_path / "o").write_text("/annex/objects/SHA256E-s9--1.parquet\n", encoding="utf-8")
    with pa.ipc.new_stream(tmp_path / "m", table.schema) as stream:  # as Hugging Face's datasets writes
        stream.write_table(table)
    (tmp_path / "l").write_text("<?xml version='1.0'?><reviews/>", encoding="utf-8")
    for name, says in (
        ("a", r"it is an Arrow \(Feather\) file: pandas\.read_feather"),
        ("b", r"it is an ORC file: pandas\.read_orc"),
        ("c", "it is compressed by gzip: unpack it"),
        ("d", r"it looks like text: let its name end in \.csv"),
        ("f", "it is a pointer of Git LFS: `git lfs pull` fetches"),
        ("e", "Parquet magic bytes not found"),
        ("g", "Parquet magic bytes not found"),
        ("h", "it looks like text"),
        ("i", r"it begins as one, but has no end: it was cut off, or is still being written$"),
        ("p", r"it begins as one, but has no end"),
        ("j", r"it is a pickle, which may run code: .*pandas\.read_pickle"),
        ("k", r"it is an SQLite database: pandas\.read_sql"),
        ("m", r"it is an Arrow stream: datasets\.load_from_disk"),
        ("l", r"it is XML: pandas\.read_xml"),
        ("n", "it is an error message of an object store: fetch the file again"),
        ("o", "it is a pointer of git-annex: `git annex get` fetches"),
    ):
        with pytest.raises(InputError, match=rf"/{name}: not a Parquet file: {says}"):
            USES["score"](str(tmp_path / name))


@pytest.mark.parametrize("use", USES)
def test_a_column_s_name_that_is_not_utf8_is_an_error_of_the_file(tmp_path: Path, use: str) -> None:
    path = write(tmp_path / "name.parquet")
    path.write_bytes(with_footer(path.read_bytes(), change_name(b"l\xffb\xfel")))
    with pytest.raises(InputError, match=r"name\.parquet: not a Parquet file: 'utf-8' codec can't decode"):
        USES[use](str(path))


def test_a_message_names_some_of_very_many_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.parquet", pa.table({f"c{number}": [1] for number in range(500)}))
    for use in USES.values():
        with pytest.raises(InputError, match=r"no column 'text'; it has 'c0', .*'c19' and 480 more") as raised:
            use(str(path))
        assert len(str(raised.value)) < 500
    named = write(tmp_path / "text.parquet", pa.table({"text": ["a"], **{f"c{n}": [1] for n in range(500)}}))
    with pytest.raises(ConfigError, match="it has 'text', 'c0'"):
        make_plan(ScoreConfig(inputs=(str(named),), keep_columns="nope"), "hash")


@pytest.mark.second_tier
@pytest.mark.timeout(240)
def test_a_very_wide_file_is_planned(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.parquet", pa.table({"text": ["a"], **{f"c{n}": [1] for n in range(30_000)}}))
    assert len(make_plan(ScoreConfig(inputs=(str(path),)), "hash").layout.kept) == 30_001


@settings(max_examples=60)
@given(from_end=st.integers(9, 900), byte=st.integers(0, 255))
def test_a_file_with_any_byte_of_its_footer_changed_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, from_end: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "drawn.parquet"
    content = bytearray(write(path, pa.table({"text": ["a", "b"], "label": [0, 1]})).read_bytes())
    content[-min(from_end, len(content))] = byte
    path.write_bytes(content)
    try:
        rows = [read_shard(shard, "text", "label") for shard in find_shards([str(path)], "text", "label")]
        plan = make_plan(ScoreConfig(inputs=(str(path),)), "hash")
    except InputError:
        return
    assert sum(len(shard.texts) for shard in rows) <= plan.rows <= 2


NAMES = ["caf\udce9.parquet", "a\0b.parquet", "x" * 300, "x/" * 3000, "[", "s3://", "://", "gs://x y/z", "s3://b?x=1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_file_can_have_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError):
        find_inputs([name])


@pytest.mark.parametrize("kind", ["pipe", "device", "loop"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd.parquet"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(InputError, match=r"odd\.parquet: "):
        find_inputs([str(path)])


def test_a_file_named_like_an_escape_sequence_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a\n\x1b[2J\u202e.parquet")
    (file,) = find_inputs([str(path)])
    with open_parquet(file) as parquet:
        assert parquet.metadata.num_rows == ROWS


class _NoSecret(encryption.KmsClient):  # type: ignore[misc]
    """Keeps keys as they are."""

    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


PER_SECOND = {"s": 1, "ms": 1000, "us": 10**6, "ns": 10**9}
DAYS_OF_INT96 = range(-2_440_587, 2**32 - 2_440_588)  # from 1970 on. Day 0 of INT96, in 4714 BC, is 1970 to Arrow


@st.composite
def times_of_int96(draw: st.DrawFn) -> tuple[str, list[int]]:
    """Draws times as a writer of INT96 may have them: of every range, and at the limits of int64 in every unit."""
    unit = draw(st.sampled_from(sorted(PER_SECOND)))
    day = 86_400 * PER_SECOND[unit]
    low, high = max(DAYS_OF_INT96[0] * day, -(2**63)), min(DAYS_OF_INT96[-1] * day, 2**63 - 1)
    limits = [sign * 2**63 * PER_SECOND[unit] // PER_SECOND[other] for other in PER_SECOND for sign in (-1, 1)]
    near = st.builds(int.__add__, st.sampled_from([0, *limits]), st.integers(-2000, 2000))
    return unit, draw(st.lists(st.integers(low, high) | near.filter(lambda time: low < time < high), min_size=1))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=times_of_int96())
def test_times_of_the_old_type_are_read_as_they_are_or_refused(tmp_path: Path, drawn: tuple[str, list[int]]) -> None:
    unit, times = drawn
    # pyarrow has no value for the smallest number of int64.
    column = pa.array([max(time, 1 - 2**63) for time in times], pa.timestamp(unit))
    pq.write_table(pa.table({"at": column}), tmp_path / "in.parquet", use_deprecated_int96_timestamps=True)
    (file,) = find_inputs([str(tmp_path / "in.parquet")])
    exact = [Fraction(time, PER_SECOND[unit]) for time in column.cast(pa.int64()).to_pylist()]
    fits = all((time * 10**6).denominator == 1 and abs(time) < (2**63 - 10**6) // 10**6 for time in exact)
    with open_parquet(file) as parquet:
        try:
            check_int96(file, parquet, range(parquet.num_row_groups), ["at"])
        except InputError:
            assert not fits
        else:
            assert [Fraction(time, 10**6) for time in parquet.read()["at"].cast(pa.int64()).to_pylist()] == exact


def encrypted(path: Path, columns: list[str], plaintext_footer: bool) -> str:
    """Writes a file, some of whose columns are encrypted."""
    table = pa.table({"id": [1, 2], "text": ["good", "bad"], "label": [1, 0]})
    settings = encryption.EncryptionConfiguration(
        footer_key="footer", column_keys={"column": columns}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(_NoSecret)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(path, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    return str(path)


def test_a_file_with_an_encrypted_footer_is_named(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "a.parquet", ["text"], plaintext_footer=False)
    with (
        pytest.raises(InputError, match=rf"^{path}: encrypted: lstm-ray cannot decrypt: write a copy"),
        open_parquet(find_file(path)),
    ):
        pass


def test_encrypted_columns_are_named_and_others_are_read(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "a.parquet", ["text", "label"], plaintext_footer=True)
    with open_parquet(find_file(path)) as parquet:
        with reading(path, range(1)):
            assert parquet.read_row_group(0, columns=["id"])["id"].to_pylist() == [1, 2]
        with (
            pytest.raises(InputError, match=r"encrypted: columns 'text', 'label': lstm-ray cannot decrypt"),
            reading(path, range(1)),
        ):
            parquet.read_row_group(0, columns=["text"])


def test_the_footer_in_an_object_store_is_that_of_the_same_file_on_a_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    field = pa.field("id", pa.int8(), nullable=False, metadata={"PARQUET:field_id": "7"})
    columns = {
        "at": pa.array([1, 2], pa.timestamp("us")),
        "kind": pa.array(["a", "b"]).dictionary_encode(),
        "nested": pa.array([[{"x": 1}], None]),
        "view": pa.array(["a", "b"], pa.large_string()),
    }
    table = (
        pa.table(columns).append_column(field, pa.array([1, 2], pa.int8())).replace_schema_metadata({"pandas": "{}"})
    )
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True, row_group_size=1)
    encrypted(tmp_path / "b.parquet", ["text"], plaintext_footer=True)
    encrypted(tmp_path / "c.parquet", ["text"], plaintext_footer=False)
    (tmp_path / "d.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    (tmp_path / "e.parquet").write_bytes(b"id,text")

    def footers() -> list[Any]:
        found: list[Any] = []
        for name in "abcde":
            try:
                schema, footer = read_footer(find_file(str(tmp_path / f"{name}.parquet")))
            except InputError as error:
                found.append(str(error))
            else:
                rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
                found.append((schema, rows))
        return found

    on_disk = footers()
    monkeypatch.setattr(parquet_files, "is_local", lambda path: False)
    in_store = footers()
    assert [type(one) for one in on_disk] == [tuple, tuple, str, str, str]
    assert in_store == on_disk
    for ours, theirs in zip(in_store[:2], on_disk[:2], strict=True):
        assert ours[0].equals(theirs[0], check_metadata=True)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_binary(), pa.string_view()], ids=str)
def test_a_dictionary_counts_as_large_as_its_values_are(kind: pa.DataType) -> None:
    words = ["long " * 1_000, "short", None]
    codes = pa.array([0, 1, 0, 2, None] * 200, pa.int8())
    dictionary = pa.DictionaryArray.from_arrays(codes, pa.array(words, kind))
    plain = dictionary.cast(pa.dictionary(pa.int8(), pa.string())).cast(pa.string())
    for table in (pa.table({"a": dictionary}), pa.table({"a": pa.chunked_array([dictionary[:7], dictionary[7:]])})):
        assert decoded_bytes(table) == pytest.approx(plain.nbytes, rel=0.05)
    numbers = pa.table({"a": [1, 2], "b": pa.array([1, 1]).dictionary_encode()})
    assert decoded_bytes(numbers) == numbers.nbytes
