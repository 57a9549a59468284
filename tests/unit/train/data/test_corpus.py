"""From labelled Parquet to token ids: the same, however the rows are cut into files and row groups."""

from __future__ import annotations

import io
import itertools
import json
import pickle
import re
import tracemalloc
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm_ray.config import TrainConfig
from lstm_ray.datasets.held_out import hash_keys, held_out
from lstm_ray.errors import InputError
from lstm_ray.model.profile import Profile
from lstm_ray.progress import Event
from lstm_ray.score.scorer import Encoder, encode_column
from lstm_ray.text.sequences import Sequences
from lstm_ray.train.data.corpus import (
    Corpus,
    EncodedShard,
    Groups,
    Prepared,
    assemble,
    encode_shard,
    find_all_shards,
)

WORDS = ["good", "bad", "a", "film", "the", "Fine", "end!", "ÄPFEL", "of", "acting<br />"]


def make_table(rows: int, seed: int = 0) -> pa.Table:
    """Returns reviews of 0 to 11 words, some of them more than once, a few without text."""
    generator = np.random.default_rng(seed)
    chances = np.arange(len(WORDS), 0, -1) / np.arange(1, len(WORDS) + 1).sum()
    texts = [" ".join(generator.choice(WORDS, number % 12, p=chances)) for number in range(rows)]
    texts = [None if number % 41 == 7 else text for number, text in enumerate(texts)]
    return pa.table({"text": texts, "label": generator.integers(0, 2, rows)})


def config(*train: Path, **changes: Any) -> TrainConfig:
    """Returns settings for files."""
    paths = tuple(str(path) for path in train)
    return TrainConfig.model_validate(
        {
            "preset": "none",
            "train": paths,
            "vocabulary_size": 10,
            "max_tokens": 6,
            "validation_fraction": 0.3,
            **changes,
        }
    )


def prepared(settings: TrainConfig) -> Prepared:
    """Returns what is learned from, encoded in this thread."""
    return assemble([encode_shard(shard, settings) for shard in find_all_shards(settings)], settings)


def write_cut(directory: Path, table: pa.Table, file_bounds: list[int], rows_per_group: int) -> list[Path]:
    """Writes a table as files that end at the given rows."""
    paths = []
    bounds = sorted({0, *(bound for bound in file_bounds if bound < len(table)), len(table)})
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        paths.append(directory / f"{number:03d}.parquet")
        pq.write_table(table.slice(start, stop - start), paths[-1], row_group_size=rows_per_group)
    return paths


def rows(corpus: Corpus) -> list[tuple[list[int], int]]:
    """Returns the token ids and label of each row."""
    ids = np.split(corpus.sequences.token_ids, corpus.sequences.offsets[1:-1]) if len(corpus) else []
    return [(row.tolist(), int(label)) for row, label in zip(ids, corpus.labels, strict=True)]


def assert_equal(left: Prepared, right: Prepared) -> None:
    """Compares all that a run would learn from."""
    assert left.vocabulary.words.equals(right.vocabulary.words)
    assert left.vocabulary.counts.equals(right.vocabulary.counts)
    for one, other in ((left.training, right.training), (left.validation, right.validation)):
        np.testing.assert_array_equal(one.sequences.token_ids, other.sequences.token_ids)
        np.testing.assert_array_equal(one.sequences.offsets, other.sequences.offsets)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert left.rows_without_text == right.rows_without_text
    assert left.profile.to_json() == right.profile.to_json()


@given(bounds=st.lists(st.integers(1, 199), max_size=5), rows_per_group=st.integers(1, 200), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_nothing_depends_on_how_rows_are_cut_into_files_and_row_groups(
    tmp_path_factory: pytest.TempPathFactory, bounds: list[int], rows_per_group: int, seed: int
) -> None:
    table = make_table(200, seed)
    whole = write_cut(tmp_path_factory.mktemp("whole"), table, [], 200)
    parts = write_cut(tmp_path_factory.mktemp("parts"), table, bounds, rows_per_group)
    assert_equal(prepared(config(*whole)), prepared(config(*parts)))


@pytest.mark.parametrize(
    ("truncating", "punctuation"), [("pre", "drop"), ("post", "drop"), ("middle", "drop"), ("pre", "keep")]
)
def test_ids_are_those_of_a_plain_reading(tmp_path: Path, truncating: str, punctuation: str) -> None:
    table = make_table(150)
    (path,) = write_cut(tmp_path, table, [], 40)
    settings = config(path, truncating=truncating, punctuation=punctuation)
    result = prepared(settings)

    texts = [(text, label) for text, label in zip(*table.to_pydict().values(), strict=True) if text]
    keys = pa.array([text.encode() for text, _ in texts], pa.large_binary())
    is_held_out = held_out(hash_keys(keys, settings.seed), 0.3)
    mark = " ! " if punctuation == "keep" else " "
    split = [text.replace("<br />", " ").replace("!", mark).lower().split() for text, _ in texts]
    counts = Counter(word for words, held in zip(split, is_held_out, strict=True) if not held for word in words)
    known = sorted(counts, key=lambda word: (-counts[word], word))[: settings.vocabulary_size - 4]
    assert result.vocabulary.words.to_pylist() == known
    assert result.vocabulary.counts.to_pylist() == [counts[word] for word in known]
    encoded = []
    for words, (_, label) in zip(split, texts, strict=True):
        ids = [1, *(4 + known.index(word) if word in known else 2 for word in words)]
        middle = ids if len(ids) <= 6 else ids[:3] + ids[-3:]
        encoded.append(({"pre": ids[-6:], "post": ids[:6], "middle": middle}[truncating], label))
    assert rows(result.training) == [row for row, held in zip(encoded, is_held_out, strict=True) if not held]
    assert rows(result.validation) == [row for row, held in zip(encoded, is_held_out, strict=True) if held]
    assert result.rows_without_text == len(table) - len(texts)
    assert any(text == "" for text in table["text"].to_pylist())


@pytest.mark.parametrize("rows_per_group", [1, 2, 100])
def test_rows_without_words_are_left_out_as_in_scoring(tmp_path: Path, rows_per_group: int) -> None:
    texts = ["good film", "", " ?!", "bad", None, "<br />", "fine"]
    train = write_cut(tmp_path, pa.table({"text": texts, "label": [1, 0, 1, 0, 1, 1, 1]}), [], rows_per_group)
    result = prepared(config(*train, validation_fraction=0.0))
    words = result.vocabulary.words.to_pylist()
    assert [[words[token - 4] for token in ids[1:]] for ids, _ in rows(result.training)] == [
        ["good", "film"],
        ["bad"],
        ["fine"],
    ]
    assert result.training.labels.tolist() == [1, 0, 1]
    assert result.rows_without_text == 4


def test_held_out_rows_do_not_count_towards_the_vocabulary(tmp_path: Path) -> None:
    train = write_cut(tmp_path, pa.table({"text": ["good", "bad"], "label": [1, 0]}), [], 10)
    pq.write_table(pa.table({"text": ["awful good"], "label": [0]}), tmp_path / "validation.parquet")
    result = prepared(config(*train, validation=(str(tmp_path / "validation.parquet"),)))
    assert result.vocabulary.words.to_pylist() == ["bad", "good"]
    assert rows(result.validation) == [([1, 2, 5], 0)]
    assert len(result.training) == 2


@given(
    films=st.lists(st.sampled_from([None, *range(20)]), min_size=150, max_size=150),
    bounds=st.lists(st.integers(1, 149), max_size=3),
    rows_per_group=st.integers(1, 150),
    kind=st.sampled_from([pa.int16(), pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.float64()]),
)
@settings(max_examples=20)
def test_rows_of_a_group_stay_on_one_side_however_they_are_stored_and_cut(
    tmp_path_factory: pytest.TempPathFactory,
    films: list[int | None],
    bounds: list[int],
    rows_per_group: int,
    kind: pa.DataType,
) -> None:
    """A row's only word is the number of its film; without a film it is "none" and the row's number."""
    texts = [f"none{row}" if film is None else f"film{film}" for row, film in enumerate(films)]
    labels = np.arange(150) % 2
    table = pa.table({"text": texts, "label": labels, "film": pa.array(films).cast(pa.string()).cast(kind)})
    parts = write_cut(tmp_path_factory.mktemp("parts"), table, bounds, rows_per_group)
    options = {"validation_group": "film", "validation_fraction": 0.5, "vocabulary_size": 999}
    result = prepared(config(*parts, **options))
    words = result.vocabulary.words.to_pylist()
    learned = {words[ids[1] - 4] for ids, _ in rows(result.training)}
    assert all(ids[1] == 2 for ids, _ in rows(result.validation)), "no word of a validation row is in training"
    assert len(result.training) + len(result.validation) == 150
    keys = pa.array([text if film is None else str(film) for text, film in zip(texts, films, strict=True)])
    side = held_out(hash_keys(keys.cast(pa.large_binary()), 0), 0.5)
    assert learned == {text for text, held in zip(texts, side, strict=True) if not held}
    groups = {film: held for film, held in zip(films, side.tolist(), strict=True) if film is not None}
    held = sum(groups.values())
    assert result.groups == Groups(len(groups) - held, held, films.count(None))
    whole = write_cut(tmp_path_factory.mktemp("whole"), table, [], 150)
    assert_equal(result, prepared(config(*whole, **options)))


def test_rows_without_words_are_told_where_too_few_are_left_to_divide(tmp_path: Path) -> None:
    (path,) = write_cut(tmp_path, pa.table({"text": ["", "!!", "fine"], "label": [0, 1, 1]}), [], 3)
    error = "all its 1 row is held out for validation: lower --validation-fraction; 2 rows without words, .*, left out"
    with pytest.raises(InputError, match=error):
        prepared(config(path, validation_fraction=1 - 1e-9))


def test_groups_that_leave_one_side_empty_are_refused_with_their_number(tmp_path: Path) -> None:
    table = pa.table({"text": ["good", "bad", "fine"], "label": [1, 0, 1], "film": ["x", "x", "x"]})
    (path,) = write_cut(tmp_path, table, [], 2)
    with pytest.raises(InputError, match="none of its 3 rows of 1 group is held out for validation: choose another"):
        prepared(config(path, validation_group="film", validation_fraction=1e-9))
    with pytest.raises(InputError, match="all its 3 rows of 1 group are held out for validation: choose another"):
        prepared(config(path, validation_group="film", validation_fraction=1 - 1e-9))
    with pytest.raises(InputError, match="no column 'author'; it has 'text', 'label', 'film': choose with --valid"):
        prepared(config(path, validation_group="author"))


@pytest.mark.parametrize("fraction", [1e-9, 1 - 1e-9])
def test_where_all_groups_are_on_one_side_the_fraction_that_the_message_names_divides_them(
    tmp_path: Path, fraction: float
) -> None:
    table = pa.table({"text": ["good", "bad"] * 3, "label": [1, 0] * 3, "film": ["x", "x", "y", "y", "z", "z"]})
    (path,) = write_cut(tmp_path, table, [], 2)
    with pytest.raises(InputError, match="6 rows of 3 groups") as refused:
        prepared(config(path, validation_group="film", validation_fraction=fraction))
    (named,) = re.findall(r"--validation-fraction to (0\.\d+)", str(refused.value))
    groups = prepared(config(path, validation_group="film", validation_fraction=float(named))).groups
    assert groups is not None
    assert min(groups.training, groups.validation) > 0


def test_max_rows_of_a_file_sorted_by_label_has_both(tmp_path: Path) -> None:
    table = make_table(4_000).set_column(1, "label", pa.array([0] * 2_000 + [1] * 2_000))
    (path,) = write_cut(tmp_path, table, [], 500)
    result = prepared(config(path, max_rows=200, validation_fraction=0.0))
    assert len(result.training) + result.rows_without_text == 200
    assert 60 < int(result.training.labels.sum()) < 140
    assert_equal(result, prepared(config(path, max_rows=200, validation_fraction=0.0)))
    whole = prepared(config(path, max_rows=9_999, validation_fraction=0.0))
    assert len(whole.training) + whole.rows_without_text == 4_000


def test_max_rows_does_not_depend_on_how_rows_are_cut(tmp_path: Path) -> None:
    table = make_table(300)
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = write_cut(tmp_path / "whole", table, [], 300)
    parts = write_cut(tmp_path / "parts", table, [1, 7, 260], 13)
    assert_equal(prepared(config(*whole, max_rows=90)), prepared(config(*parts, max_rows=90)))


@pytest.mark.parametrize("unlisted", ["oov", "drop"])
def test_a_given_vocabulary_is_used_as_it_is(tmp_path: Path, unlisted: str) -> None:
    train = write_cut(tmp_path, pa.table({"text": ["the good film", "a bad end"], "label": [1, 0]}), [], 1)
    index = tmp_path / "words.json"
    index.write_text(json.dumps({"the": 1, "a": 2, "good": 3, "bad": 4}), encoding="utf-8")
    changes = {"vocabulary": str(index), "unlisted_words": unlisted, "validation_fraction": 0.0}
    result = prepared(config(*train, **changes))
    assert rows(result.training) == (
        [([1, 4, 6, 2], 1), ([1, 5, 7, 2], 0)] if unlisted == "oov" else [([1, 4, 6], 1), ([1, 5, 7], 0)]
    )
    assert rows(prepared(config(*train, **changes, vocabulary_size=7)).training)[1][0][2] == 2, "7 ids: 0 to 6"


@pytest.mark.parametrize("truncating", ["pre", "post", "middle"])
@pytest.mark.parametrize("unlisted", ["oov", "drop"])
def test_rows_are_counted_as_scoring_counts_them(tmp_path: Path, truncating: str, unlisted: str) -> None:
    """Scoring splits only the end of a long text; of the rest it knows only that there is more."""
    table = make_table(300)
    long = pa.array([f"good {text} " * (number % 9 * 5 + 1) for number, text in enumerate(table["text"].to_pylist())])
    table = table.set_column(0, "text", pc.if_else(table["text"].is_null(), None, long))
    changes: dict[str, Any] = {"truncating": truncating, "max_tokens": 30, "validation_fraction": 0.0}
    if unlisted == "drop":
        path = tmp_path / "words.json"
        path.write_text(json.dumps({word: rank for rank, word in enumerate(["good", "film", "a", "end"], 1)}))
        changes |= {"vocabulary": str(path), "unlisted_words": "drop", "vocabulary_size": 7}
    settings = config(*write_cut(tmp_path, table, [], 100), **changes)
    found = prepared(settings)
    encoder = Encoder(cast(Any, SimpleNamespace(text=settings, vocabulary=lambda: found.vocabulary)))
    expected = encode_column(encoder, table["text"]).texts + Profile(positives=int(found.training.labels.sum()))
    assert 0 < expected.unknown < expected.words
    assert 0 < expected.truncated < expected.rows
    assert found.profile.training.to_json() == expected.to_json()
    assert found.profile.validation.rows == 0


def test_shards_are_held_once() -> None:
    """A generator yields them one by one: a list of all, joined and split, would take several times the memory."""
    shard_rows, shards = 2_000, 50

    def encoded() -> Iterator[EncodedShard]:
        for number in range(shards):
            generator = np.random.default_rng(number)
            words = pa.array([f"word{word + 10 * number}" for word in range(100)], pa.large_string())
            codes = generator.integers(0, 101, (shard_rows, 80), np.int32)
            offsets = np.arange(shard_rows + 1) * 80
            labels = generator.integers(0, 2, shard_rows).astype(np.int8)
            sides = [
                Corpus(Sequences(codes.reshape(-1), offsets), labels),
                Corpus(Sequences(codes[0], offsets[:2]), labels[:1]),
            ]
            counts = pa.table({"word": words, "count": np.arange(100)})
            yield EncodedShard(*sides, words, counts, 1, 2, labels.astype(np.int64), labels[:0])

    settings = config(vocabulary_size=200, max_tokens=80)
    assemble(itertools.islice(encoded(), 1), settings)  # imports what is imported late
    tracemalloc.start()
    try:
        result = assemble(encoded(), settings)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(result.training) == shard_rows * shards
    assert (result.rows_without_text, result.rows_with_other_label) == (shards, 2 * shards)
    size = result.training.sequences.token_ids.nbytes
    assert peak < 1.5 * size
    known = {word: 4 + number for number, word in enumerate(result.vocabulary.words.to_pylist())}
    for number, shard in enumerate(encoded()):
        assert shard.words is not None
        ids = np.array([1, *(known.get(word, 2) for word in shard.words.to_pylist())])
        rows_of_shard = slice(number * shard_rows * 80, (number + 1) * shard_rows * 80)
        np.testing.assert_array_equal(
            result.training.sequences.token_ids[rows_of_shard], ids[shard.training.sequences.token_ids]
        )
        ours = result.validation.sequences.token_ids[number * 80 : (number + 1) * 80]
        np.testing.assert_array_equal(ours, ids[shard.validation.sequences.token_ids])


class Memory(bytearray):
    """Memory of a shard that was received; a bytearray itself takes no weak references."""


def test_only_copies_of_a_shards_arrays_are_kept(tmp_path: Path) -> None:
    """Ray returns views of its object store; a single one would keep the whole shard there."""
    settings = config(*write_cut(tmp_path, make_table(200), [], 50))
    shards = [encode_shard(shard, settings) for shard in find_all_shards(settings)]
    received: list[list[weakref.ref[Memory]]] = []

    def views() -> Iterator[EncodedShard]:
        for shard in shards:
            buffers: list[pickle.PickleBuffer] = []
            content = pickle.dumps(shard, protocol=5, buffer_callback=buffers.append)
            memory = [Memory(buffer.raw()) for buffer in buffers]
            received.append([weakref.ref(one) for one in memory])
            yield pickle.loads(content, buffers=memory)
            assert not any(one() for earlier in received[:-1] for one in earlier), "only the last shard is held"

    assert_equal(assemble(views(), settings), assemble(shards, settings))
    assert len(received) == 4


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    nobody, one_class, few = tmp_path / "nobody.parquet", tmp_path / "one.parquet", tmp_path / "few.parquet"
    pq.write_table(pa.table({"text": [None, None], "label": [0, 1]}, pa.schema({"text": "str", "label": "i8"})), nobody)
    pq.write_table(pa.table({"text": ["good", "fine"], "label": [1, 1]}), one_class)
    pq.write_table(pa.table({"text": ["good", "bad"], "label": [1, 0]}), few)
    with pytest.raises(
        InputError, match=r"nobody\.parquet: no rows to train on; 2 rows without words, or not in UTF-8, left out$"
    ):
        prepared(config(nobody))
    with pytest.raises(InputError, match="all 2 training rows have the label 1"):
        prepared(config(one_class, validation_fraction=0.0))
    with pytest.raises(InputError, match="none of its 2 rows is held out"):
        prepared(config(few, validation_fraction=1e-9))
    with pytest.raises(InputError, match=r"nobody\.parquet: no rows to validate on"):
        prepared(config(few, validation=(str(nobody),)))


# Rows on both sides


def texts_file(path: Path, texts: list[str], row_group_size: int = 3) -> Path:
    """Writes texts with labels that alternate."""
    table = pa.table({"text": texts, "label": np.arange(len(texts)) % 2})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def seen_bytes(prepared: Prepared) -> bytes:
    stream = io.BytesIO()
    prepared.seen.write(stream)
    return stream.getvalue()


def test_validation_rows_whose_text_is_learned_from_are_counted(tmp_path: Path) -> None:
    train = texts_file(tmp_path / "train.parquet", ["good film", "bad film", "a film", "bad film"])
    validation = texts_file(tmp_path / "validation.parquet", ["bad film", "bad film", "Bad film", "", "the film"])
    data = prepared(config(train, validation=(str(validation),)))
    seen = (data.validation_rows_seen, len(data.validation))
    assert seen == (3, 4), "by the text but for letter case, rows without words aside"
    assert len(data.seen) == 3


def test_training_texts_with_both_labels_are_counted(tmp_path: Path) -> None:
    texts = ["good film", "bad film", "Bad film", "a film", "a  film", "good film", "one", "one film"]
    train = texts_file(tmp_path / "train.parquet", texts, row_group_size=2)
    validation = texts_file(tmp_path / "validation.parquet", ["one", "one", "two", "two"])
    assert prepared(config(train, validation=(str(validation),))).contradictory_texts == 3


def test_no_held_out_row_is_learned_from_because_of_white_space_around_it(tmp_path: Path) -> None:
    texts = [f"film number{row}" for row in range(60)]
    data = prepared(config(texts_file(tmp_path / "in.parquet", [*texts, *(f" {text}\n" for text in texts)])))
    assert len(data.validation)
    assert data.validation_rows_seen == 0


def test_what_is_seen_does_not_depend_on_how_rows_are_cut_into_shards(tmp_path: Path) -> None:
    texts = [f"film {number % 50}" for number in range(90)]
    one = prepared(config(texts_file(tmp_path / "one.parquet", texts, row_group_size=90)))
    many = prepared(config(texts_file(tmp_path / "many.parquet", texts, row_group_size=7)))
    assert seen_bytes(one) == seen_bytes(many)
    assert one.validation_rows_seen == many.validation_rows_seen == 0, "equal texts are held out together"


def test_a_linear_part_that_learns_from_the_held_out_rows_too_has_seen_them(tmp_path: Path) -> None:
    path = texts_file(tmp_path / "a.parquet", [f"film {number}" for number in range(90)])
    once, refitted = (prepared(config(path, ngrams=1, ngram_refit=refit)) for refit in (False, True))
    assert len(once.seen) == len(once.training) < 90
    assert len(refitted.seen) == 90
    assert refitted.validation_rows_seen == 0


@pytest.mark.parametrize("name", ["train.parquet", "link.parquet", "sub/../*.parquet"])
def test_a_file_for_training_and_validation_is_refused_unless_it_is_wanted(tmp_path: Path, name: str) -> None:
    train = texts_file(tmp_path / "train.parquet", ["good film", "bad film"])
    (tmp_path / "link.parquet").symlink_to(train)
    settings = config(train, validation=(f"{tmp_path}/{name}",))
    with pytest.raises(InputError, match=r"is in --train and in --validation, .* or pass --allow-seen-files$"):
        find_all_shards(settings)
    data = prepared(settings.model_copy(update={"allow_seen_files": True}))
    assert data.validation_rows_seen == len(data.validation) == 2


def test_a_note_that_holds_for_both_sides_is_given_once(tmp_path: Path) -> None:
    sides = [tmp_path / side / "label=1" / "a.parquet" for side in ("train", "validation")]
    for number, path in enumerate(sides):
        path.parent.mkdir(parents=True)
        pq.write_table(make_table(9, seed=number), path)
    train, validation = (path.parent.parent for path in sides)
    notes: list[Event] = []
    find_all_shards(config(train, validation=str(validation), validation_fraction=0), notes.append)
    assert notes == ["note: label: in files and in their directories' names: the files' own values are kept"]
