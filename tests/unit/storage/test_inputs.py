"""Inputs: files are found in a known order, and an output among them is refused."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lstm_ray.errors import ConfigError, InputError
from lstm_ray.storage.inputs import check_apart, find_inputs, is_named_by, shared_files, would_find
from lstm_ray.storage.parquet import open_parquet

TREE = [
    "b.parquet",
    "a.parquet",
    "10.parquet",
    "notes.txt",
    "UPPER.PARQUET",
    "_SUCCESS",
    "_metadata.parquet",
    ".a.parquet.crc",
    ".hidden.parquet",
    "year=2024/x.parquet",
    "year=2025/month=1/y.parquet",
    "_temporary/0/z.parquet",
    ".staging/z.parquet",
    "year=2025/_tmp/z.parquet",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in TREE:
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


def names(base: Path, *inputs: str | Path) -> list[str]:
    return [os.path.relpath(file.path, base) for file in find_inputs([str(given) for given in inputs])]


# Finding


def test_a_directory_stands_for_its_files_by_path_but_not_the_hidden_ones(tree: Path) -> None:
    expected = ["10.parquet", "a.parquet", "b.parquet", "year=2024/x.parquet", "year=2025/month=1/y.parquet"]
    assert names(tree, tree) == expected
    assert names(tree, f"{tree}/") == expected


def test_a_partition_whose_name_begins_with_an_underscore_is_not_hidden(tree: Path) -> None:
    for name in ("_year=2024/_month=1/p.parquet", "_year=2024/_tmp/q.parquet", "._year=2024/r.parquet"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"")
    (found,) = (file for file in find_inputs([str(tree)]) if "_year=" in file.path)
    assert found.path == f"{tree}/_year=2024/_month=1/p.parquet"
    assert found.partitions == {"_year": "2024", "_month": "1"}


def test_a_file_is_taken_whatever_its_name(tree: Path) -> None:
    for name in ("notes.txt", ".hidden.parquet", "_temporary/0/z.parquet"):
        assert names(tree, tree / name) == [name]


def test_a_hidden_directory_that_is_named_is_searched(tree: Path) -> None:
    assert names(tree, tree / "_temporary") == ["_temporary/0/z.parquet"]
    assert names(tree, tree / ".staging/*.parquet") == [".staging/z.parquet"]


def test_the_order_is_that_of_the_inputs(tree: Path) -> None:
    assert names(tree, tree / "b.parquet", tree / "year=2025", tree / "a.parquet") == [
        "b.parquet",
        "year=2025/month=1/y.parquet",
        "a.parquet",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.parquet", ["10.parquet", "a.parquet", "b.parquet"]),
        ("?.parquet", ["a.parquet", "b.parquet"]),
        ("[bc].parquet", ["b.parquet"]),
        (
            "*",
            [
                "10.parquet",
                "UPPER.PARQUET",
                "a.parquet",
                "b.parquet",
                "notes.txt",
                "year=2024/x.parquet",
                "year=2025/month=1/y.parquet",
            ],
        ),
        ("year=*", ["year=2024/x.parquet", "year=2025/month=1/y.parquet"]),
        ("*/*.parquet", ["year=2024/x.parquet"]),
        ("year=*/**/*.parquet", ["year=2024/x.parquet", "year=2025/month=1/y.parquet"]),
        (
            "**/*.parquet",
            ["10.parquet", "a.parquet", "b.parquet", "year=2024/x.parquet", "year=2025/month=1/y.parquet"],
        ),
        ("**/y.parquet", ["year=2025/month=1/y.parquet"]),
        ("year=2025/**", ["year=2025/month=1/y.parquet"]),
        ("**/month=1/**/y.parquet", ["year=2025/month=1/y.parquet"]),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert names(tree, tree / pattern) == expected


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    for name in ("a[1].parquet", "a1.parquet", "what?.parquet"):
        (tmp_path / name).write_bytes(b"")
    assert names(tmp_path, tmp_path / "a[1].parquet") == ["a[1].parquet"]
    assert names(tmp_path, tmp_path / "what?.parquet") == ["what?.parquet"]


def test_a_misspelt_path_is_answered_with_the_one_beside_it(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=f"no such file or directory: did you mean {tmp_path}/train.parquet[?]"):
        find_inputs([f"{tmp_path}/trian.parquet"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.parquet", "no such file or directory"),
        ("tree,missing.parquet", "no such file or directory$"),
        ("tree/missing/", "no such file or directory"),
        ("tree/*.csv", "no file matches"),
        ("tree/none/*", "no file matches"),
        ("empty", r"no \*\.parquet file in this directory"),
    ],
)
def test_an_input_that_holds_nothing_is_named(tree: Path, given: str, message: str) -> None:
    (tree.parent / "empty").mkdir()
    (tree.parent / "empty" / "_only_hidden.parquet").write_bytes(b"")
    with pytest.raises(InputError, match=message) as raised:
        find_inputs([str(tree), f"{tree.parent}/{given}"])
    assert str(raised.value).startswith(f"{tree.parent}/{given}: ")


def test_inputs_joined_by_commas_are_told_apart_from_a_missing_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    with pytest.raises(InputError, match="no such file or directory: give each input separately, without commas"):
        find_inputs(["a.parquet,b.parquet"])


def test_an_empty_path_is_not_the_current_directory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    with pytest.raises(InputError):
        find_inputs([""])


def test_relative_paths_and_the_home_directory(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree))
    assert names(tree, "a.parquet", "~/b.parquet", "year=2024/../10.parquet") == [
        "a.parquet",
        "b.parquet",
        "10.parquet",
    ]


def test_what_is_told_of_a_file(tree: Path) -> None:
    os.utime(tree / "a.parquet", (1_700_000_000, 1_700_000_000))
    (found,) = find_inputs([str(tree / "a.parquet")])
    assert found.size == len("a.parquet")
    assert found.modified.startswith("2023-11-14T22:13:20")
    with found.open() as file:
        assert file.read() == b"a.parquet"


def test_a_file_that_has_gone_is_named(tree: Path) -> None:
    (found,) = find_inputs([str(tree / "a.parquet")])
    (tree / "a.parquet").unlink()
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read: "):
        found.open()


# Each real file once


def noted(*inputs: str | Path) -> tuple[list[str], list[str]]:
    """Returns the names of the files that inputs stand for, and the notes on them."""
    notes: list[str] = []
    files = find_inputs([str(given) for given in inputs], notes.append)
    return [Path(file.path).name for file in files], notes


def test_a_file_that_is_named_twice_is_read_once(tree: Path) -> None:
    found, notes = noted(tree, tree / "b.parquet", tree / "*.parquet", tree / "year=2024/../a.parquet")
    assert found == ["10.parquet", "a.parquet", "b.parquet", "x.parquet", "y.parquet"]
    assert f"note: read once, although named more than once: 3 files ({tree}/10.parquet, ...)" in notes


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_two_names_of_one_file_are_one_file(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    (tmp_path / "b.parquet").write_bytes(b"rows")
    link(tmp_path / "b.parquet", tmp_path / "a.parquet")
    found, notes = noted(tmp_path)
    assert found == (["b.parquet"] if link is os.symlink else ["a.parquet"]), "the one that is no link"
    assert notes == [
        f"note: read once, although named more than once: 1 file ({tmp_path}/a.parquet is {tmp_path}/b.parquet)"
    ]


def test_a_linked_directory_keeps_the_partitions_of_the_real_one(tree: Path) -> None:
    (tree / "latest").symlink_to(tree / "year=2025")
    files = {Path(file.path).name: file.partitions for file in find_inputs([str(tree)])}
    assert files["y.parquet"] == {"year": "2025", "month": "1"}
    assert len(files) == 5


def test_links_that_lead_in_circles_end(tree: Path) -> None:
    (tree / "year=2024" / "up").symlink_to(tree)
    (tree / "year=2024" / "out").symlink_to(tree.parent)
    (tree / "year=2024" / "other").symlink_to(tree / "year=2025")
    (tree / "year=2025" / "back").symlink_to(tree / "year=2024")
    (tree.parent / "not-asked-for.parquet").write_bytes(b"")
    assert len(noted(tree)[0]) == 5


def test_a_directory_behind_a_link_is_read(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "reviews").symlink_to(tree)
    assert len(noted(tmp_path / "in")[0]) == len(noted(tmp_path / "in" / "reviews")[0]) == 5


@pytest.mark.parametrize("given", ["", "/*", "/gone.parquet"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, given: str) -> None:
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"gone\.parquet: this link leads nowhere"):
        find_inputs([f"{tmp_path}{given}"])


def test_a_pipe_is_no_file_to_read_at_random(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    for given in (tmp_path, tmp_path / "a.parquet"):
        with pytest.raises(InputError, match=r"a\.parquet: not a regular file"):
            find_inputs([str(given)])


def test_files_of_two_inputs_are_compared_by_what_they_are(tree: Path) -> None:
    (tree / "link.parquet").symlink_to(tree / "b.parquet")
    some, others = find_inputs([str(tree / "link.parquet"), str(tree / "a.parquet")]), find_inputs([f"{tree}/[b1]*"])
    assert [Path(file.path).name for file in shared_files(some, others)] == ["link.parquet"]
    for given in (tree, tree / "*.parquet", tree / "b.parquet", tree / "link.parquet"):
        assert is_named_by(str(given), some[0])
    for given in (tree / "a.parquet", tree / "year=*", "s3://bucket/b.parquet"):
        assert not is_named_by(str(given), some[0])


# The message says what is left out, and what takes it


def test_other_suffixes_are_told_with_what_takes_them(tmp_path: Path) -> None:
    for name in ("000000_0", "b.parq", "c.PARQUET", "d.parquet", "e.txt", "_SUCCESS", ".d.parquet.crc"):
        (tmp_path / name).write_bytes(b"")
    found, notes = noted(tmp_path)
    assert found == ["d.parquet"]
    assert notes == [
        f"note: {tmp_path}: left out 4 files without the suffix .parquet (000000_0, b.parq, c.PARQUET, ...); "
        f"'{tmp_path}/*' takes all"
    ]
    assert noted(f"{tmp_path}/*") == (["000000_0", "b.parq", "c.PARQUET", "d.parquet", "e.txt"], [])


@pytest.mark.parametrize(
    ("files", "splits", "one"),
    [
        (["train-00000-of-00001", "test-00000-of-00001"], "test, train", "train-*"),
        (["d/train-00000-of-00002", "d/train-00001-of-00002", "d/dev-00000-of-00001"], "dev, train", "d/train-*"),
        (["b/train-00000-of-00001-0a1b", "a/validation-00000-of-00001-9f"], "train, validation", "**/train-*"),
        (["train", "test"], "test, train", "train.parquet"),
        (["train", "val"], "train, val", "train.parquet"),
        (["train/train", "val/val"], "train, val", "**/train.parquet"),
        (["d/train/train-0", "d/test/0"], "test, train", "d/train/*"),
        (["train/label=0/train-0", "train/label=1/train-0", "dev/label=0/0"], "dev, train", "train/*"),
        (["test/a", "test/b"], None, ""),
        (["train-00000-of-00002", "train-00001-of-00002"], None, ""),
        (["us-00000-of-00001", "de-00000-of-00001"], None, ""),
        (["train", "reviews"], None, ""),
    ],
)
def test_splits_that_are_taken_together_are_told_with_what_takes_one(
    tmp_path: Path, files: list[str], splits: str | None, one: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.parquet").write_bytes(name.encode())
    notes: list[str] = []
    find_inputs([str(tmp_path)], notes.append, warns_of_splits=True)
    pattern = f"'{tmp_path}/{one}'" if "*" in one else f"{tmp_path}/{one}"
    told = f"note: {tmp_path}: takes the splits {splits} together; {pattern} takes train alone"
    assert notes == ([] if splits is None else [told])
    if splits is not None:
        taken = find_inputs([pattern.strip("'")], notes.append, warns_of_splits=True)
        assert [Path(file.path).name[:5] for file in taken] == ["train"] * sum("train" in name for name in files)
    find_inputs([f"{tmp_path / name}.parquet" for name in files], notes.append, warns_of_splits=True)
    find_inputs([str(tmp_path)], notes.append)
    assert len(notes) <= 1, "not where files are named one by one, and not where rows are scored"


def test_a_file_that_was_converted_is_not_told(tmp_path: Path) -> None:
    for name in ("monday.csv", "monday.parquet"):
        (tmp_path / name).write_bytes(b"")
    assert noted(tmp_path) == (["monday.parquet"], [])
    (tmp_path / "tuesday.csv").write_bytes(b"")
    left_out = f"note: {tmp_path}: left out 1 file without the suffix .parquet (tuesday.csv); "
    convert = f"`lstm-ray data convert {tmp_path}/tuesday.csv --output {tmp_path}/tuesday.parquet` makes Parquet of it"
    assert noted(tmp_path)[1] == [left_out + convert]
    (tmp_path / "wednesday.csv").write_bytes(b"")  # '*.csv' would convert monday.csv again
    assert noted(tmp_path)[1][0].endswith("; convert them one by one with lstm-ray data convert")


def test_a_lance_table_is_named_with_what_makes_parquet_of_it(tmp_path: Path) -> None:
    for name in ("data/4d1f.lance", "_versions/1.manifest", "_transactions/0-4d1f.txn"):
        (tmp_path / "x.lance" / name).parent.mkdir(parents=True)
        (tmp_path / "x.lance" / name).write_bytes(b"\0\1LANC")
    with pytest.raises(
        InputError, match=r"no \*\.parquet file .*; those in \.lance are of a Lance table: .* makes Parq"
    ):
        find_inputs([str(tmp_path / "x.lance")])
    (file,) = find_inputs([str(tmp_path / "x.lance/**")])
    with pytest.raises(InputError, match=r"4d1f\.lance: not a Parquet file: .* of a Lance table"), open_parquet(file):
        pass


def test_a_directory_of_other_suffixes_says_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "000000_0").write_bytes(b"")
    pattern = f"{tmp_path}/**"
    for given in (tmp_path, tmp_path / "day=*"):
        with pytest.raises(InputError, match=r"no \*\.parquet file in this directory: left out 1 file ") as raised:
            find_inputs([str(given)])
        assert str(raised.value).endswith(f"(day=1/000000_0); '{pattern}' takes all")
    assert noted(pattern) == (["000000_0"], [])


# URIs


def test_a_file_uri_finds_the_same_files(tree: Path) -> None:
    for given in (tree, tree / "a.parquet", tree / "**/*.parquet"):
        found = find_inputs([f"file://{given}"])
        assert [file.path for file in found] == [f"file://{file.path}" for file in find_inputs([str(given)])]
        for file in found:
            with file.open() as opened:
                assert opened.read().decode() == file.path.removeprefix(f"file://{tree}/")


@pytest.mark.parametrize("name", ["two words.parquet", "100%41.parquet", "été.parquet", "a#b.parquet"])
def test_a_uri_is_read_as_it_is_written(tmp_path: Path, name: str) -> None:
    # As with `aws s3`: %41 is no A, and a blank needs no %20.
    (tmp_path / name).write_bytes(b"content")
    for given in (f"file://{tmp_path}", f"file://{tmp_path}/{name}", f"file://{tmp_path}/*{name[-9:]}"):
        (found,) = find_inputs([given])
        assert found.path == f"file://{tmp_path}/{name}"
        with found.open() as file:
            assert file.read() == b"content"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("s3a://bucket/a", "s3a://bucket/a: .*; write s3://bucket/a$"),
        ("S3://bucket/a?region=x", r"; write s3://bucket/a\?region=x$"),
        ("https://host/a.parquet", "; known are s3://, .*: fetch other files, and give their path$"),
        ("file://data/a.parquet", "; give the path alone, or file:///PATH, with three slashes$"),
        ("FILE:///a.parquet", "; give the path alone, or file:///PATH"),
        ("file:/data/a.parquet", "a URI has two slashes after the colon, and a local one three: file:///data$"),
        ("s3:/bucket/a", "a URI has two slashes after the colon"),
        ("oss:/bucket/a", "a URI has two slashes after the colon"),
        ("C:/data/a.parquet", "no such file or directory$"),
    ],
)
def test_a_uri_of_another_kind_says_which_one_is_read(given: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        find_inputs([given])


def test_a_scheme_whose_library_is_missing_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"hf://datasets/imdb: .*huggingface_hub.*; known are s3://"):
        find_inputs(["hf://datasets/imdb"])


def test_a_question_mark_in_a_uri_does_not_widen_what_it_stands_for(tree: Path) -> None:
    # It may be a wildcard or begin options, but may not silently take in the directory's other files.
    try:
        found = [file.path for file in find_inputs([f"file://{tree}/?.parquet"])]
    except InputError:
        return
    assert found == [f"file://{tree}/a.parquet", f"file://{tree}/b.parquet"]


# An output among the inputs


@pytest.mark.parametrize(
    ("given", "file", "found"),
    [
        ("in", "in/out/part.parquet", True),
        ("in", "in/_out/part.parquet", False),
        ("in", "inside/part.parquet", False),
        ("in/*.parquet", "in/part.parquet", True),
        ("in/*.parquet", "in/out/part.parquet", False),
        ("in/**/*.parquet", "in/out/part.parquet", True),
        ("in/**/*.parquet", "in/.out/part.parquet", False),
        ("in/a.parquet", "in/part.parquet", False),
        ("file:///in", "/in/out/part.parquet", True),
    ],
)
def test_what_would_be_found_once_it_is_there(given: str, file: str, found: bool) -> None:
    assert would_find(given, file) is found


def test_an_output_among_the_inputs_is_refused_with_the_harm() -> None:
    check_apart(["in/*.parquet", "other"], "in/out", "part.parquet", "so")
    with pytest.raises(ConfigError, match=r"^--output in/out is inside the input in, which nobody could read: choose "):
        check_apart(["other", "in"], "in/out", "part.parquet", "which nobody could read")


@pytest.mark.parametrize(("given", "output"), [("data", "link/out"), ("link", "data/out"), ("link/*/*", "data/out")])
def test_an_output_among_the_inputs_is_refused_behind_a_link_too(tmp_path: Path, given: str, output: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    with pytest.raises(ConfigError, match="is inside the input"):
        check_apart([f"{tmp_path}/{given}"], f"{tmp_path}/{output}", "part-0.parquet", "harm")
    check_apart([f"{tmp_path}/{given}"], f"{tmp_path}/out", "part-0.parquet", "harm")


def test_names_of_directories_that_are_not_utf8_when_decoded_stay_apart(tmp_path: Path) -> None:
    values = ["%FF", "%E9", "%C3%A9", "%zz", "100%", "a+b", ""]
    for value in values:
        (tmp_path / f"lang={value}").mkdir()
        (tmp_path / f"lang={value}" / "a.parquet").touch()
    found = {
        file.path.split("lang=")[1].split("/")[0]: file.partitions["lang"] for file in find_inputs([str(tmp_path)])
    }
    assert found == {value: "é" if value == "%C3%A9" else value for value in values}


def test_directories_that_give_a_column_two_values_are_refused(tmp_path: Path) -> None:
    for path in ("a=1/a=1/same.parquet", "a=1/b=2/a=3/x.parquet"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).touch()
    with pytest.raises(InputError, match=r"a=3: its name has two values of the column 'a': .* give the first one as"):
        find_inputs([str(tmp_path)])
    assert [file.partitions for file in find_inputs([f"{tmp_path}/a=1"])] == [{"a": "1"}, {"b": "2", "a": "3"}]
    assert [file.partitions for file in find_inputs([f"{tmp_path}/a=1/a=*"])] == [{"a": "1"}]


def test_one_file_in_directories_that_give_it_other_values_stands_for_both(tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
    (tmp_path / "year=2023" / "a.parquet").write_bytes(b"x")
    os.link(tmp_path / "year=2023" / "a.parquet", tmp_path / "year=2024" / "a.parquet")
    assert [file.partitions for file in find_inputs([str(tmp_path)])] == [{"year": "2023"}, {"year": "2024"}]
