"""Word vectors from GloVe's and word2vec's text files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lstm_ray.errors import InputError
from lstm_ray.text import word_vectors
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.text.word_vectors import read_vector_size, read_word_vectors

GLOVE = "the 0.1 0.2 -3\nbad 1e-3 2 3\ngood . 7 8 9\nÄpfel 4 5 6\ngood 1 2 3\ngood 9 9 9\n"


def vocabulary(*words: str, size: int = 100) -> Vocabulary:
    """Returns a vocabulary of words, the first of which has id 4."""
    return Vocabulary(pa.array(words, pa.large_string()), pa.array([1] * len(words), pa.int64()), size)


@pytest.mark.parametrize("header", ["", "6 3\n"])
@pytest.mark.parametrize("compressed", [False, True])
def test_the_listed_words_get_their_vectors(tmp_path: Path, header: str, compressed: bool) -> None:
    path = tmp_path / ("vectors.txt.gz" if compressed else "vectors.txt")
    content = (header + GLOVE).encode()
    path.write_bytes(gzip.compress(content) if compressed else content)
    assert read_vector_size(str(path)) == 3
    found = read_word_vectors(str(path), vocabulary("good", "absent", "Äpfel", "bad", "6"))
    assert found.ids.tolist() == [4, 6, 7]
    expected = np.array([[1, 2, 3], [4, 5, 6], [0.001, 2, 3]], np.float32)
    np.testing.assert_array_equal(found.vectors, expected)
    assert found.vectors.dtype == np.float32


def test_words_beyond_the_vocabularys_size_get_none(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(GLOVE, encoding="utf-8")
    assert read_word_vectors(str(path), vocabulary("the", "good", "bad", size=6)).ids.tolist() == [4, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("the 1 2 3\ngood 1 2\n", "line 2: expected a word and 3 numbers; is the file complete"),
        ("the 1 2 3\nbad 1 two 3\n", "line 2: expected a word and 3 numbers"),
        ("the 1 2 3\nbad 1 nan 3\n", "line 2: expected a word and 3 numbers"),
        ("the 1 2 3\n", "has no vector for any of the 2 words of the vocabulary"),
        ("", "no word vectors"),
        ("good\nbad\n", "no word vectors"),
        ("3 2\n\x00\x01\x02", "no word vectors"),
        ("word,vector\n", "no word vectors"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=rf"vectors\.txt: {message}"):
        read_word_vectors(str(path), vocabulary("good", "bad"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.txt: cannot be read: no such file"):
        read_vector_size(str(tmp_path / "none.txt"))


@pytest.mark.timeout(60)
def test_a_line_without_end_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_vectors, "_LONGEST", 1 << 10)
    packed = tmp_path / "packed.txt.gz"
    packed.write_bytes(gzip.compress(b"good" + b" 1" * 1_000_000))
    for path in ("/dev/zero", str(packed)):
        with pytest.raises(InputError, match="no word vectors: a line has more than 0 MiB"):
            read_vector_size(path)
