"""Corpora as people have them: many files, huge and empty ones, any codec, partitioned directories."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from lstm_ray.config import ScoreConfig
from lstm_ray.errors import ConfigError, InputError
from lstm_ray.score.output import Manifest
from lstm_ray.score.run import score
from lstm_ray.storage.inputs import InputFile

MIB = 2**20
TEXTS = ["a good film", None, "bad acting and a bad end", "", "fine"]


def nothing(*_: Any) -> None:
    """Ignores progress."""


Run = Callable[..., Manifest]


@pytest.fixture
def run(tmp_path: Path, tiny_bundle: Path) -> Run:
    """Gives a function that scores inputs into `tmp_path`/out."""

    def score_it(*inputs: object, **changes: Any) -> Manifest:
        settings = {"inputs": tuple(map(str, inputs)), "model": str(tiny_bundle), "output": str(tmp_path / "out")}
        return score(ScoreConfig.model_validate({**settings, **changes}), nothing)

    return score_it


def write(path: Path, texts: Any, first_row: int = 0, **options: Any) -> None:
    """Writes texts and the numbers of their rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.arange(first_row, first_row + len(texts))
    pq.write_table(pa.table({"row": rows, "text": texts}), path, **options)


def read(output: Path) -> pa.Table:
    """Returns all scored rows."""
    return ds.dataset(output).to_table()


def test_many_small_files(run: Run, tmp_path: Path) -> None:
    for file in range(300):
        write(tmp_path / "in" / f"{file:03d}.parquet", TEXTS, 5 * file)
    manifest = run(tmp_path / "in")
    assert (manifest.parts, manifest.rows) == (300, 1_500)
    assert read(tmp_path / "out")["row"].to_pylist() == list(range(1_500))
    assert manifest.errors == {"empty_text": 300, "null_text": 300}


@pytest.mark.second_tier
def test_a_huge_row_group_is_read_once_and_in_linear_time(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 400_000
    path = tmp_path / "huge.parquet"
    texts = np.array(["a good film", "bad bad acting"])[np.arange(rows) % 2]
    write(path, texts, row_group_size=rows, use_dictionary=False, compression="none")
    bytes_read = [0]
    open_file = InputFile.open

    class Counting:
        """A file that counts the bytes read from it."""

        closed = False

        def __init__(self, file: Any) -> None:
            self._file = file
            self.seek, self.tell, self.close = file.seek, file.tell, file.close

        def read(self, size: int = -1) -> bytes:
            """Reads and counts."""
            content: bytes = self._file.read(size)
            bytes_read[0] += len(content)
            return content

    monkeypatch.setattr(InputFile, "open", lambda self: pa.PythonFile(Counting(open_file(self)), mode="r"))
    seconds = {}
    for parts in (10, 100):
        begun = time.perf_counter()
        bytes_read[0] = 0
        output = tmp_path / f"out-{parts}"
        assert run(path, output=str(output), rows_per_part=rows // parts).parts == parts
        seconds[parts] = time.perf_counter() - begun
        assert bytes_read[0] < 1.1 * path.stat().st_size
        assert read(output)["row"].equals(pa.chunked_array([pa.array(np.arange(rows))]))
    assert seconds[100] < 4 * seconds[10] + 2, "reading it anew for each part would take ten times as long"


@pytest.mark.parametrize("row_groups", [0, 1])
def test_files_without_rows_among_others(run: Run, tmp_path: Path, row_groups: int) -> None:
    write(tmp_path / "in/1.parquet", TEXTS)
    schema = pq.read_schema(tmp_path / "in/1.parquet")
    with pq.ParquetWriter(tmp_path / "in/2.parquet", schema) as writer:
        for _ in range(row_groups):
            writer.write_table(schema.empty_table())
    write(tmp_path / "in/3.parquet", TEXTS, 5)
    manifest = run(tmp_path / "in")
    assert (manifest.parts, manifest.rows, manifest.bad_files) == (2, 10, 0)
    assert read(tmp_path / "out")["row"].to_pylist() == list(range(10))


@pytest.mark.second_tier
def test_a_review_of_200_mib_among_short_ones(start: Callable[..., Any], tiny_bundle: Path, tmp_path: Path) -> None:
    texts = ["a good film"] * 2_000
    texts[777] = "good bad " * (200 * MIB // 9)
    write(tmp_path / "long.parquet", texts, compression="zstd", use_dictionary=False)
    command = start(
        "score",
        tmp_path / "long.parquet",
        "--model",
        tiny_bundle,
        "--output",
        tmp_path / "out",
        "--keep-columns",
        "row",
    )
    peak_mib = 0
    while command.process.poll() is None:
        peak_mib = max(peak_mib, _peak_mib(command.process.pid))
        time.sleep(0.02)
    code, error = command.end()
    assert code == 0, error
    scores = read(tmp_path / "out")["sentiment_probability"].to_pylist()
    assert len(scores) == 2_000
    assert scores[777] is not None
    assert len(set(scores)) == 2
    assert 200 < peak_mib < 1_600, "about six times the text, the program itself included"


def _peak_mib(process_id: int) -> int:
    """Returns the peak memory of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:"))


def test_a_million_empty_reviews(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "empty.parquet", [""] * 1_000_000)
    begun = time.perf_counter()
    manifest = run(tmp_path / "empty.parquet")
    assert time.perf_counter() - begun < 30
    assert (manifest.rows, manifest.errors) == (1_000_000, {"empty_text": 1_000_000})


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.null()], ids=str)
def test_only_nulls(run: Run, tmp_path: Path, kind: pa.DataType) -> None:
    write(tmp_path / "in/1.parquet", pa.nulls(10_000, kind))
    manifest = run(tmp_path / "in", rows_per_part=2_000)
    assert manifest.errors == {"null_text": 10_000}
    assert read(tmp_path / "out")["sentiment_probability"].null_count == 10_000


def test_a_file_of_only_nulls_without_a_type_beside_others(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "in/1.parquet", pa.nulls(3, pa.null()))
    write(tmp_path / "in/2.parquet", TEXTS, 3)
    manifest = run(tmp_path / "in")
    assert (manifest.rows, manifest.errors) == (8, {"empty_text": 1, "null_text": 4})
    written = read(tmp_path / "out")
    assert written["text"].to_pylist() == [None] * 3 + TEXTS
    assert written.schema.field("text").type == pa.string()


def test_all_codecs(run: Run, tmp_path: Path) -> None:
    codecs = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")
    for file, codec in enumerate(codecs):
        write(tmp_path / "in" / f"{file}.parquet", TEXTS * 100, 500 * file, compression=codec)
    manifest = run(tmp_path / "in")
    assert manifest.rows == 500 * len(codecs)
    written = read(tmp_path / "out")
    assert written["row"].to_pylist() == list(range(manifest.rows))
    scores = written["sentiment_probability"].to_pylist()
    assert scores == scores[:500] * len(codecs)


# Directories named key=value


@pytest.fixture
def hive(tmp_path: Path) -> Path:
    """Gives four files of five rows, below year=.../lang=..."""
    places = ("year=2023/lang=en", "year=2024/lang=__HIVE_DEFAULT_PARTITION__", "year=2024/lang=pt%2FBR", "plain")
    for number, place in enumerate(places):
        write(tmp_path / "hive" / place / "a.parquet", TEXTS, 5 * number)
    return tmp_path / "hive"


YEARS = [None] * 5 + ["2023"] * 5 + ["2024"] * 10
LANGUAGES = [None] * 5 + ["en"] * 5 + [None] * 5 + ["pt/BR"] * 5


@pytest.mark.parametrize("given", ["", "*/*.parquet|*/*/*.parquet", "**/a.parquet"])
def test_directories_become_columns(run: Run, hive: Path, tmp_path: Path, given: str) -> None:
    manifest = run(*(hive / pattern for pattern in given.split("|")), rows_per_part=2)
    assert manifest.rows == 20
    written = read(tmp_path / "out")
    assert written.column_names[:4] == ["row", "text", "year", "lang"]
    assert written["year"].to_pylist() == YEARS
    assert written["lang"].to_pylist() == LANGUAGES
    assert {field.type for field in written.schema if field.name in ("year", "lang")} == {pa.string()}
    rerun = run(*(hive / pattern for pattern in given.split("|")), rows_per_part=2)
    assert rerun.parts_kept == manifest.parts


def test_directories_mean_what_they_mean_to_pyarrow(run: Run, hive: Path, tmp_path: Path) -> None:
    run(hive)
    kinds = pa.schema([("year", pa.string()), ("lang", pa.string())])
    theirs = ds.dataset(hive, partitioning=ds.partitioning(kinds, flavor="hive")).to_table().sort_by("row")
    ours = read(tmp_path / "out").select(theirs.column_names).sort_by("row")
    assert ours.to_pydict() == theirs.to_pydict()


def test_directories_can_be_chosen_and_left_out(run: Run, hive: Path, tmp_path: Path) -> None:
    run(hive, keep_columns="year,row")
    assert read(tmp_path / "out").column_names[:2] == ["year", "row"]
    run(hive, keep_columns="row", output=str(tmp_path / "other"))
    assert read(tmp_path / "other").column_names[0] == "row"
    with pytest.raises(ConfigError, match="the input has no column 'month'; it has 'row', 'text', 'year', 'lang'"):
        run(hive, keep_columns="month", output=str(tmp_path / "third"))


def test_only_directories_below_the_given_one_count(run: Run, hive: Path, tmp_path: Path) -> None:
    run(hive / "year=2024")
    assert "year" not in read(tmp_path / "out").column_names
    assert read(tmp_path / "out")["lang"].to_pylist() == LANGUAGES[10:]
    run(hive / "year=2023/lang=en/a.parquet", output=str(tmp_path / "other"))
    assert read(tmp_path / "other").column_names[:3] == ["row", "text", "sentiment_probability"]


def test_a_column_keeps_its_values_whatever_its_directory_is_called(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "in/row=x/a.parquet", TEXTS)
    run(tmp_path / "in")
    assert read(tmp_path / "out")["row"].to_pylist() == list(range(5))


def test_a_directory_that_clashes_with_another_files_column(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "in/a.parquet", TEXTS)
    (tmp_path / "in/row=x").mkdir()
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "in/row=x/a.parquet")
    with pytest.raises(
        InputError, match=r"row=x/a\.parquet: column 'row' is string here and int64 in .*in/a\.parquet: "
    ):
        run(tmp_path / "in")


# Names

NAMES = ["two words", "critiques été 评论 🎬", "100%41", "a+b", "year=20%2B24", "it's #1", "a&b=c;d", "[x]", "-o"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("name", NAMES)
def test_names_with_any_characters(run: Run, tmp_path: Path, name: str, scheme: str) -> None:
    write(tmp_path / name / f"{name}.parquet", TEXTS)
    write(tmp_path / f"other {name}" / f"{name}.parquet", TEXTS)
    inputs = [f"{scheme}{tmp_path}/{name}", f"{scheme}{tmp_path}/other {name}/{name}.parquet"]
    output = tmp_path / f"out {name}"
    manifest = run(*inputs, output=f"{scheme}{output}")
    assert (manifest.rows, manifest.parts) == (10, 2)
    assert ds.dataset(output).to_table()["row"].to_pylist() == [0, 1, 2, 3, 4] * 2
    assert (output / "_SUCCESS").exists()
    assert run(*inputs, output=f"{scheme}{output}").parts_kept == 2
