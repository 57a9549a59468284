"""Opens the zip archives in a bundle, which is untrusted input."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TypeAlias

from lstm_ray.wording import shortened

PathOrFile: TypeAlias = str | os.PathLike[str] | IO[bytes]


@contextmanager
def open_archive(path_or_file: PathOrFile) -> Iterator[zipfile.ZipFile]:
    """Opens an uncompressed archive: all members together must not be larger than the archive.

    Raises:
        zipfile.BadZipFile: It is not an archive, or members are compressed, encrypted or too large.
        OSError: The file cannot be opened.
    """
    with zipfile.ZipFile(path_or_file) as archive:
        assert archive.fp is not None  # it is open
        size = archive.fp.seek(0, os.SEEK_END)
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > size:
            raise zipfile.BadZipFile(f"it would unpack from {size:,} bytes to {unpacked:,}, but should be uncompressed")
        if odd := [one.filename for one in archive.infolist() if one.compress_type or one.flag_bits & 1]:
            raise zipfile.BadZipFile(f"{shortened(repr(odd[0]))} in it is compressed or encrypted")
        yield archive
