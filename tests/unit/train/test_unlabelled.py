"""A run that first learns word vectors from more texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from runs import changed

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.datasets.held_out import hash_keys, held_out
from lstm_ray.datasets.labelled import Shard, read_columns
from lstm_ray.errors import ConfigError, InputError, OutputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.text.word_vectors import read_word_vectors
from lstm_ray.train import run, unlabelled
from lstm_ray.train.data.corpus import find_all_shards
from lstm_ray.vectors.corpus import TextCorpus

MORE = ["a fine film", "a fine end", None, "a bad film"] * 5


@pytest.fixture
def more(settings: TrainConfig, tmp_path: Path) -> TrainConfig:
    """Gives settings of a run with unlabelled texts, one of which is in a validation row too."""
    (train,) = settings.train
    texts = pq.read_table(train)["text"].combine_chunks().cast(pa.large_string())
    hashes = hash_keys(texts.cast(pa.large_binary()), settings.seed)
    held = texts.filter(pa.array(held_out(hashes, settings.validation_fraction)))
    pq.write_table(pa.table({"text": [*MORE, held[0].as_py().upper()]}), tmp_path / "more.parquet")
    return changed(settings, unlabelled=(str(tmp_path / "more.parquet"),), vector_epochs=2)


def vector_files(settings: TrainConfig) -> list[Path]:
    """Lists the files of vectors that a run keeps."""
    return sorted(Path(settings.output).glob("vectors/*"))


def texts_of(corpus: TextCorpus) -> list[str]:
    """Returns a corpus's texts, of the words that it keeps."""
    words = corpus.words.to_pylist()
    bounds = zip(corpus.texts.offsets[:-1], corpus.texts.offsets[1:], strict=True)
    return [" ".join(words[number] for number in corpus.texts.token_ids[a:b]) for a, b in bounds]


@pytest.mark.parametrize("has_validation_file", [False, True])
def test_validation_texts_are_left_out(
    more: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_validation_file: bool
) -> None:
    every_word = unlabelled.skip_gram_settings(more).model_copy(update={"min_count": 1})
    monkeypatch.setattr(unlabelled, "skip_gram_settings", lambda config: every_word)
    train = pq.read_table(more.train[0])["text"].to_pylist()
    if has_validation_file:
        pq.write_table(
            pa.table({"text": ["A FINE END", "a fine end"], "label": [0, 1]}), tmp_path / "validation.parquet"
        )
        more = changed(more, validation=(str(tmp_path / "validation.parquet"),))
        held, left_out = {"a fine end"}, 5
    else:
        hashes = hash_keys(pa.array(train, pa.large_string()).cast(pa.large_binary()), more.seed)
        is_held = held_out(hashes, more.validation_fraction)
        held, left_out = {text for text, is_one in zip(train, is_held, strict=True) if is_one}, 1
    more_texts = [text and text.lower() for text in pq.read_table(more.unlabelled[0])["text"].to_pylist()]
    corpus = unlabelled.read_all_texts(more, find_all_shards(more), watcher)
    expected = [text for text in [*train, *more_texts] if text is not None and text not in held]
    assert texts_of(corpus) == expected
    assert watcher.said[-1].startswith(f"{left_out} unlabelled text")


def test_words_start_with_the_vectors_that_a_resumed_run_finds_again(
    more: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = changed(more, freeze_embeddings=True, epochs=1)
    run.train(frozen, watcher)
    (path,) = vector_files(frozen)
    assert any("words (" in line and "start with a learned vector" in line for line in watcher.said)
    bundle = read_bundle(f"{frozen.output}/model")
    vectors = read_word_vectors(str(path), bundle.vocabulary())
    np.testing.assert_array_equal(bundle.weights().embedding[vectors.ids], vectors.vectors)
    monkeypatch.setattr(unlabelled, "learn_vectors", None)  # would fail if it were called
    resumed = run.train(changed(frozen, epochs=2), watcher)
    assert resumed.state.epoch == 2


def test_each_training_row_is_read_once_without_unlabelled_texts(
    settings: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Shard] = []

    def count(shard: Shard, columns: list[str]) -> pa.Table:
        read.append(shard)
        return read_columns(shard, columns)

    monkeypatch.setattr(unlabelled, "read_columns", count)
    config = changed(settings, learn_vectors=True)
    shards = find_all_shards(config)
    unlabelled.read_all_texts(config, shards, watcher)
    assert len(read) == len(shards)


def test_vectors_of_other_texts_are_not_used(more: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run.train(changed(more, epochs=1), watcher)
    before = vector_files(more)
    pq.write_table(pa.table({"text": ["a bad end"] * 90}), more.unlabelled[0])
    with monkeypatch.context() as patch:
        patch.setattr(unlabelled, "learn_vectors", None)  # would fail if it were called
        with pytest.raises(OutputError, match="data has changed since this run began"):
            run.train(more, watcher)
    assert vector_files(more) == before
    assert run.train(changed(more, fresh=True), watcher).state.epoch == 2
    assert len(vector_files(more)) == 1, "--fresh deletes the others"


def test_a_run_that_ends_while_it_learns_vectors_begins_again(
    more: TrainConfig, watcher: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(unlabelled, "learn_vectors", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train(more, watcher)
    assert vector_files(more) == []
    with monkeypatch.context() as patch:
        patch.setattr(run, "_add_word_vectors", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train(more, watcher)
    (old,) = vector_files(more)
    pq.write_table(pa.table({"text": ["a bad end"] * 90}), more.unlabelled[0])
    assert run.train(more, watcher).state.epoch == 2
    (new,) = vector_files(more)
    assert new != old, "nothing was learned with the old ones"


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_texts_without_the_column_are_refused_before_anything_is_read(more: TrainConfig, watcher: Any) -> None:
    pq.write_table(pa.table({"review": MORE}), more.unlabelled[0])
    with pytest.raises(InputError, match="no column 'text'"):
        run.train(more, watcher)
    assert watcher.said == []
    assert not Path(more.output).exists()


def test_settings_that_exclude_each_other() -> None:
    given = {"unlabelled": ("more.parquet",)}
    with pytest.raises(
        ConfigError, match="--unlabelled learns word vectors, --embeddings reads them: give one of them"
    ):
        resolve(TrainConfig, {**given, "embeddings": "vectors.txt"})
    with pytest.raises(ConfigError, match="--unlabelled is for lstm-ray's own networks"):
        resolve(TrainConfig, {**given, "network": "mine:build"})
    assert resolve(TrainConfig, {**given, "freeze_embeddings": True}).freeze_embeddings
