"""Opens the zip archives in a bundle, which is untrusted input."""

from __future__ import annotations

import io
import zipfile

from lstm_ray.wording import shortened


def open_archive(content: bytes) -> zipfile.ZipFile:
    """Opens an uncompressed archive: all members together must not be larger than the archive.

    Raises:
        zipfile.BadZipFile: It is not an archive, or members are compressed, encrypted or too large.
    """
    archive = zipfile.ZipFile(io.BytesIO(content))
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > len(content):
        raise zipfile.BadZipFile(
            f"it would unpack from {len(content):,} bytes to {unpacked:,}, but should be uncompressed"
        )
    if odd := [one.filename for one in archive.infolist() if one.compress_type or one.flag_bits & 1]:
        raise zipfile.BadZipFile(f"{shortened(repr(odd[0]))} in it is compressed or encrypted")
    return archive
