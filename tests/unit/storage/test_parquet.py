"""Encrypted files and columns are named as such, and what is not encrypted is read."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.errors import InputError
from lstm_ray.storage.inputs import find_file
from lstm_ray.storage.parquet import open_parquet, reading

encryption: Any = pytest.importorskip("pyarrow.parquet.encryption", reason="pyarrow without encryption")


class _NoSecret(encryption.KmsClient):  # type: ignore[misc]
    """Keeps keys as they are."""

    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)

    def unwrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64decode(key)


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
        pytest.raises(InputError, match=rf"^{path}: encrypted: lstm-ray has no keys: write a copy"),
        open_parquet(find_file(path)),
    ):
        pass


def test_encrypted_columns_are_named_and_others_are_read(tmp_path: Path) -> None:
    path = encrypted(tmp_path / "a.parquet", ["text", "label"], plaintext_footer=True)
    with open_parquet(find_file(path)) as parquet:
        with reading(path, range(1)):
            assert parquet.read_row_group(0, columns=["id"])["id"].to_pylist() == [1, 2]
        with (
            pytest.raises(InputError, match=r"encrypted: columns 'text', 'label': lstm-ray has"),
            reading(path, range(1)),
        ):
            parquet.read_row_group(0, columns=["text"])
