"""Storage: a written file is complete or absent."""

import fcntl
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lstm_ray import storage
from lstm_ray.errors import InputError, OutputError
from lstm_ray.storage import write_bytes, write_file


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.parquet", "b.parquet", "year=2024/x.parquet", "year=2025/_tmp/z", "year=2025/month=1/y.parquet"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "tree"


# Writing


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_what_is_written_is_read(tmp_path: Path, scheme: str) -> None:
    path = f"{scheme}{tmp_path}/made/on/the/way/file.bin"
    write_bytes(path, b"\x00content")
    assert storage.read_bytes(path) == b"\x00content"
    write_bytes(path, b"")
    assert storage.read_bytes(path) == b""
    assert os.listdir(tmp_path / "made/on/the/way") == ["file.bin"]


@pytest.mark.parametrize("raised", [ValueError("bad row"), KeyboardInterrupt(), SystemExit(3)])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_while_writing_leaves_what_was_there(
    tmp_path: Path, raised: BaseException, old: bytes | None
) -> None:
    if old is not None:
        (tmp_path / "file").write_bytes(old)

    def write(stream: Any) -> None:
        stream.write(b"half of the new")
        raise raised

    with pytest.raises(type(raised)) as caught:
        write_file(str(tmp_path / "file"), write)
    assert caught.value is raised, "what is wrong with the content is not the storage's to explain"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == ({} if old is None else {"file": old})


def test_directories_made_for_what_fails_are_deleted_and_others_stay(tmp_path: Path) -> None:
    def fail(_: Any) -> None:
        raise InputError("half way")

    (tmp_path / "there").mkdir()
    for path in ("a/b/file", "there/file", "there/c/file"):
        with pytest.raises(InputError, match="half way"):
            storage.write_file(str(tmp_path / path), fail)
    with pytest.raises(OutputError, match="name too long"):
        storage.write_file(str(tmp_path / "a" / ("x" * 300) / "file"), fail)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_several_files_get_their_names_once_all_are_written(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]

    def write(*streams: Any, fails: bool = False) -> None:
        for stream, path in zip(streams, paths, strict=True):
            stream.write(path.name.encode())
        assert not any(path.exists() for path in paths)
        if fails:
            raise InputError("half way")

    with pytest.raises(InputError, match="half way"):
        storage.write_files([*map(str, paths)], functools.partial(write, fails=True))
    assert not list(tmp_path.iterdir())
    storage.write_files([*map(str, paths)], write)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "a", "b": "b", "c": "c"}


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write(stream: Any) -> None:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"

    write_file(str(path), write)
    assert path.read_bytes() == b"new"


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    path = tmp_path / "file"

    def fsync(descriptor: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    write_bytes(str(path), b"content")
    (temporary, named_then), directory = synced
    assert temporary.endswith(".tmp")
    assert not named_then
    assert directory == (str(tmp_path), True)
    write_file(str(path), lambda stream: stream.write(b"other"), durable=False)
    assert len(synced) == 2


def test_a_full_disk_is_an_output_error_with_the_place(tmp_path: Path) -> None:
    def write(stream: Any) -> None:
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"file: cannot be written: no space left on device$"):
        write_file(str(tmp_path / "file"), write)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/null", path)])
def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError, match="out: cannot be written: not a regular file"):
        storage.write_bytes(str(tmp_path / "out"), b"new")
    assert not (tmp_path / "out").is_file()
    assert (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "directory").mkdir()
    for place in ("file/below", "directory"):
        with pytest.raises(OutputError) as raised:
            write_bytes(f"{tmp_path}/{place}", b"content")
        assert str(raised.value).startswith(f"{tmp_path}/{place}: cannot be written: ")
        assert "\n" not in str(raised.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory", "file"], "no temporary file is left"


def test_reading_what_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(InputError, match="cannot be read: "):
            storage.read_bytes(str(path))


def test_a_message_shows_paths_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "Reviews" / "Train.parquet"
    with pytest.raises(InputError) as raised:
        storage.read_bytes(str(path))
    assert str(raised.value).startswith(f"{path}: cannot be read: ")
    assert str(path).lower() not in str(raised.value)


# Listing and deleting


def test_names_in_a_directory(tree: Path) -> None:
    assert storage.list_names(str(tree / "year=2025")) == ["_tmp", "month=1"]
    assert storage.list_names(str(tree / "missing")) == []
    assert storage.list_names(f"file://{tree}/year=2024") == ["x.parquet"]
    with pytest.raises(OutputError, match="is a file, not a directory"):
        storage.list_names(str(tree / "a.parquet"))


def test_a_directory_that_comes_and_goes_is_listed_as_empty(tmp_path: Path) -> None:
    directory = tmp_path / "here"
    ended = threading.Event()

    def come_and_go() -> None:
        while not ended.is_set():
            directory.mkdir()
            directory.rmdir()

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        for _ in range(5000):
            assert storage.list_names(str(directory)) == []
    finally:
        ended.set()
        thread.join()


def test_exists(tree: Path) -> None:
    assert storage.exists(str(tree))
    assert storage.exists(str(tree / "a.parquet"))
    assert not storage.exists(str(tree / "missing"))


def test_delete_takes_files_and_directories_and_does_not_mind_if_there_is_none(tree: Path) -> None:
    storage.delete(str(tree / "a.parquet"))
    storage.delete(f"file://{tree}/year=2025")
    storage.delete(str(tree / "missing"))
    assert sorted(os.listdir(tree)) == ["b.parquet", "year=2024"]


def test_delete_does_not_follow_a_link(tree: Path) -> None:
    (tree / "link").symlink_to(tree / "year=2024")
    storage.delete(str(tree / "link"))
    assert not (tree / "link").is_symlink()
    assert (tree / "year=2024/x.parquet").exists()


def test_a_failed_run_that_deletes_its_directory_leaves_none_above_it(tmp_path: Path) -> None:
    def fail() -> None:
        storage.delete(str(tmp_path / "runs/first"))
        raise InputError("no rows")

    with pytest.raises(InputError, match="no rows"), storage.locked(str(tmp_path / "runs/first"), "lock"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_lock_has_one_holder_even_if_its_file_is_deleted_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(descriptor: int, operation: int) -> None:  # after another process has deleted the file
        (tmp_path / "lock").unlink()
        lock(descriptor, operation)

    lock = fcntl.flock
    with storage.locked(str(tmp_path), "lock"):
        for _ in range(2):
            with pytest.raises(OutputError, match="another run is writing here"), storage.locked(str(tmp_path), "lock"):
                pass
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OutputError, match="another run is writing here"), storage.locked(str(tmp_path), "lock"):
        pass
    monkeypatch.undo()
    with storage.locked(str(tmp_path), "lock"):
        pass
