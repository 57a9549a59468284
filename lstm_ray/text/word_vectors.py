"""Reads and writes word vectors in the text format of GloVe and word2vec.

    400000 2            header: number of words, dimensions; word2vec writes it, GloVe does not
    good 0.1 -0.25
    . . . 0.3 0.5       GloVe's largest file has words with spaces, which never occur in a vocabulary

Files are streamed, because they may have gigabytes; only the vectors of a vocabulary's words are kept. A file whose
name ends in .gz is decompressed while it is read.

Source: https://nlp.stanford.edu/projects/glove/ and word2vec.c, `-binary 0`.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_ray import storage
from lstm_ray.errors import InputError
from lstm_ray.text.vocabulary import FIRST_WORD_ID, Vocabulary
from lstm_ray.wording import counted, reason

_BUFFER_BYTES = 1 << 20
_LONGEST = 16 << 20  # bytes of a line, which is held as a whole


@dataclass(frozen=True)
class WordVectors:
    """The vectors that a file has for words of the vocabulary.

    Attributes:
        ids: int32[words], ascending, without repeats.
        vectors: float32[words, size].
    """

    ids: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float32]


def read_vector_size(path: str) -> int:
    """Returns the dimensions of the vectors in a file.

    Raises:
        InputError: The file cannot be read, or contains no word vectors.
    """
    with _lines(path) as lines:
        first = next(lines, b"")
        if _is_header(first):
            first = next(lines, b"")
    numbers = first.split()[1:]
    if not numbers or _parse(numbers[-1:]) is None:  # only the last: a word may contain spaces
        raise InputError(f"{path}: no word vectors: expected lines of a word and its numbers, as GloVe writes them")
    return len(numbers)


def read_word_vectors(path: str, vocabulary: Vocabulary) -> WordVectors:
    """Returns the vectors of a vocabulary's words; if the file has several for a word, the first one.

    Raises:
        InputError: The file cannot be read, a vector is damaged, or no word of the vocabulary has one.
    """
    size = read_vector_size(path)
    listed = vocabulary.words.slice(0, max(vocabulary.size - FIRST_WORD_ID, 0))
    id_of_word = {word.encode(): number for number, word in enumerate(listed.to_pylist(), FIRST_WORD_ID)}
    found: dict[int, npt.NDArray[np.float32]] = {}
    with _lines(path) as lines:
        for number, line in enumerate(lines, 1):
            word_id = id_of_word.get(line.split(b" ", 1)[0])
            if word_id is None or word_id in found or (number == 1 and _is_header(line)):
                continue
            numbers = line.split()[1:]
            if len(numbers) > size:
                continue  # a word with spaces, whose first part is in the vocabulary
            vector = _parse(numbers)
            if vector is None or len(vector) < size:
                raise InputError(
                    f"{path}: line {number}: expected a word and {counted(size, 'number')}; is the file complete?"
                )
            found[word_id] = vector
    if not found:
        raise InputError(f"{path}: has no vector for any of the {len(id_of_word):,} words of the vocabulary")
    ids = np.array(sorted(found), np.int32)
    return WordVectors(ids, np.stack([found[word_id] for word_id in ids.tolist()]))


def write_word_vectors(path: str, words: pa.LargeStringArray, vectors: npt.NDArray[np.float32]) -> None:
    """Writes vectors, float32[words, size], with six digits; compressed if the file's name ends in .gz.

    Raises:
        OutputError: The file cannot be written.
    """
    size = vectors.shape[1]
    line = "%s" + " %.6g" * size + "\n"

    def write(stream: Any) -> None:
        stream.write(f"{len(vectors)} {size}\n".encode())
        for word, vector in zip(words.to_pylist(), vectors, strict=True):
            stream.write((line % (word, *vector.tolist())).encode())

    def write_compressed(stream: Any) -> None:
        # Without a timestamp the same vectors give the same file.
        with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as compressed:
            write(compressed)

    storage.write_file(path, write_compressed if path.endswith(".gz") else write)


@contextmanager
def _lines(path: str) -> Iterator[Iterator[bytes]]:
    filesystem, target = storage.locate(path)
    try:
        with filesystem.open_input_stream(target) as stream:
            yield _short_lines(io.BufferedReader(stream, _BUFFER_BYTES), path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error


def _short_lines(stream: io.BufferedReader, path: str) -> Iterator[bytes]:
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise InputError(f"{path}: no word vectors: a line has more than {_LONGEST >> 20} MiB")
        yield line


def _is_header(line: bytes) -> bool:
    parts = line.split()
    return len(parts) == 2 and all(part.isdigit() for part in parts)


def _parse(numbers: list[bytes]) -> npt.NDArray[np.float32] | None:
    """Returns numbers as float32[n], or None if one of them is not a finite number."""
    try:
        vector = np.array([float(number) for number in numbers], np.float32)
    except ValueError:
        return None
    return vector if np.isfinite(vector).all() else None
