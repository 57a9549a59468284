"""A local directory is replaced as a whole: at every moment the old one or the new one is there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lstm_ray.errors import OutputError
from lstm_ray.storage import directories, replace_directory


def content(directory: Path) -> dict[str, bytes]:
    """Returns the files of a directory."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


@pytest.mark.parametrize("exchanges", [True, False], ids=["exchanged", "renamed twice"])
def test_a_directory_replaces_another_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:  # as on NFS

        def refuse(one: Path, other: Path) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(directories, "_exchange", refuse)
    path = tmp_path / "on" / "the" / "way" / "model"
    replace_directory(str(path), {"a": b"1", "b": b"2"})
    (path / "notes").mkdir()
    (path / "notes/today").write_bytes(b"mine")
    (path / "link").symlink_to("notes/today")
    replace_directory(f"file://{path}", {"b": b"3"}, {"a"})
    assert (path / "notes/today").read_bytes() == b"mine"
    assert (path / "link").is_symlink()
    assert content(path) == {"b": b"3", "link": b"mine"}
    assert os.listdir(path.parent) == ["model"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "elsewhere")
    replace_directory(str(tmp_path / "model"), {"a": b"1"})
    assert (tmp_path / "model").is_symlink()
    assert content(tmp_path / "elsewhere") == {"a": b"1"}


def test_a_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"model: cannot be written: is a file, not a directory"):
        replace_directory(str(tmp_path / "model"), {"a": b"1"})
    assert content(tmp_path) == {"model": b"mine"}


def test_there_is_a_directory_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model"
    replace_directory(str(path), {"a": b"0"})
    rename, ended = Path.rename, threading.Event()

    def rename_slowly(old: Path, new: Path) -> Path:  # a gap between two renames would be seen
        renamed = rename(old, new)
        time.sleep(0.05)
        return renamed

    monkeypatch.setattr(Path, "rename", rename_slowly)

    def replace() -> None:
        for number in range(20):
            replace_directory(str(path), {"a": str(number).encode()})
        ended.set()

    writer = threading.Thread(target=replace)
    writer.start()
    looks = 0
    while not ended.is_set():
        assert path.is_dir()
        looks += 1
    writer.join()
    assert looks > 20


WRITE_AND_WAIT = """
import sys, time
from lstm_ray.storage import directories
def wait(path, content):
    print(path, flush=True)
    time.sleep(600)
directories.write_bytes = wait
directories.replace_directory(sys.argv[1], {"a": b"1"})
"""


def test_remnants_of_killed_writers_are_deleted_and_those_of_running_ones_are_not(tmp_path: Path) -> None:
    for name in (".model.4711.tmp", ".model.4711.old", f".model.{'0' * 16}.tmp", ".other.4711.tmp", ".model.notes.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"")
    command = [sys.executable, "-c", WRITE_AND_WAIT, str(tmp_path / "model")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None
            in_use = Path(writer.stdout.readline()).parent
            replace_directory(str(tmp_path / "model"), {"a": b"2"})
            assert sorted(os.listdir(tmp_path)) == sorted([".model.notes.tmp", in_use.name, ".other.4711.tmp", "model"])
        finally:
            writer.kill()
    replace_directory(str(tmp_path / "model"), {"a": b"3"})
    assert not in_use.exists()
    assert content(tmp_path / "model") == {"a": b"3"}
