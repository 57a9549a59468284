"""What a file is, by the bytes with which it begins."""

from __future__ import annotations

import pytest

from lstm_ray.storage.formats import unsupported_format

REST = bytes(range(256)) * 2


@pytest.mark.parametrize(
    ("begin", "says"),
    [
        *(
            (b"<%s>" % name, "a web page")
            for name in (b"html", b"HTML", b"!doctype html", b"!DOCTYPE html", b"!Doctype HTML")
        ),
        (b"\xef\xbb\xbf<?xml version='1.0'?>", "XML: pandas.read_xml(FILE)"),
        *((b"\x80%c" % protocol, "a pickle, which may run code: if you trust it, pandas") for protocol in range(2, 6)),
        *((b"BZh%d1AY&SY" % level, "compressed by bzip2: ") for level in range(1, 10)),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a zip archive or a spreadsheet"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07", "a rar archive"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"\x1f\x9d", "compressed by compress"),
        (b"Obj\x01", "an Avro file"),
        (b"\x89HDF\r\n", "an HDF5 file: pandas.read_hdf(FILE)"),
        (b"%PDF-1.4", "a PDF"),
        (b"ORC.csv".ljust(257, b"\0") + b"ustar  \0", "a tar archive"),
    ],
)
def test_a_file_of_another_format_is_named(begin: bytes, says: str) -> None:
    assert (unsupported_format(begin + REST) or "").startswith(says)


@pytest.mark.parametrize(
    "text", ["text,label\n", "ORCID,text\n", "html,text\n", "Rar,PDF\n", '{"a": "<?xml "}\n', "\x80", ""]
)
def test_a_text_is_of_no_other_format(text: str) -> None:
    assert unsupported_format(text.encode() * 100) is None
