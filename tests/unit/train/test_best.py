"""The preset `best`: what it chooses, and that what is given wins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from lstm_ray.config import (
    TrainConfig,
    TuneConfig,
    changed_since,
    left_open,
    meaning_of,
    read_yaml,
    resolve,
    to_yaml,
    with_paths,
)
from lstm_ray.errors import ConfigError
from lstm_ray.train.best import DataFacts, choices, choose, look_at
from lstm_ray.train.data.corpus import assemble, encode_shard, find_all_shards
from lstm_ray.tune.search import trial_config

WORDS = 300


def write_reviews(path: Path, rows: int, row_group_size: int = 500) -> str:
    """Writes reviews of 1 to 50 words out of `WORDS`, the longest last."""
    generator = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in generator.integers(0, WORDS, 1 + 50 * row // rows)) for row in range(rows)]
    pq.write_table(pa.table({"text": texts, "label": np.arange(rows) % 2}), path, row_group_size=row_group_size)
    return str(path)


def best(**given: object) -> TrainConfig:
    """Returns settings with the preset."""
    return resolve(TrainConfig, {"preset": "best", "output": "run", **given})


def test_every_setting_that_is_left_open_is_chosen_and_valid() -> None:
    for rows in (1, 500, 25_000, 1_000_000, 10**9):
        chosen = choices(DataFacts(rows, max(1, rows // 100), words=rows, ngrams=100 * rows, row_ngrams=300))
        sometimes = {"ngram_rows", "shared_dropout", "output_dropout"}
        assert chosen.keys() | sometimes == meaning_of(TrainConfig, "from_data").keys()
        TrainConfig.model_validate({name: value for name, (value, _) in chosen.items()})


@pytest.mark.parametrize(("unlabelled", "units"), [(0, 64), (5_000, 128)])
def test_only_texts_without_labels_pay_for_more_units(unlabelled: int, units: int) -> None:
    facts = DataFacts(25_000, 800, words=50_000, ngrams=100_000, row_ngrams=300, unlabelled=unlabelled)
    assert choices(facts)["units"][0] == units


def test_a_number_of_rows_is_compared_with_the_one_that_decides() -> None:
    few, many = (choices(DataFacts(rows, 50, words=1_000, ngrams=10_000, row_ngrams=50)) for rows in (6_000, 20_000))
    assert many["learning_rate"] == (0.001, "20,000 rows, 10,000 or more")
    assert few["global_batch_size"] == (32, "6,000 rows, fewer than 100,000")
    assert few["learning_rate"] == (0.003, "6,000 rows, fewer than 10,000, after pretraining")


def test_the_linear_part_is_fitted_on_as_many_rows_as_fit_into_memory() -> None:
    few = choices(DataFacts(150_000, 400, words=60_000, ngrams=10**7, row_ngrams=300))
    many = choices(DataFacts(10_000_000, 400, words=60_000, ngrams=10**7, row_ngrams=300))
    assert "ngram_rows" not in few
    assert many["ngram_rows"][0] == 200_000


def test_the_facts_come_from_a_sample_and_are_near_those_of_all_rows(tmp_path: Path) -> None:
    config = best(train=(write_reviews(tmp_path / "in.parquet", 20_000),), validation_fraction=0)
    facts = look_at(config, find_all_shards(config))
    exact = assemble((encode_shard(shard, config) for shard in find_all_shards(config)), config)
    assert facts.rows == 20_000
    assert facts.long_text == pytest.approx(np.quantile(exact.training.sequences.lengths, 0.98), abs=3)
    assert WORDS <= facts.words < 10 * WORDS, "a sample cannot know that there are no more"


def test_what_is_given_wins(tmp_path: Path) -> None:
    config = best(train=(write_reviews(tmp_path / "in.parquet", 1_000),), max_tokens=80, epochs=2)
    chosen, reasons = choose(config, find_all_shards(config))
    assert (chosen.max_tokens, chosen.epochs) == (80, 2)
    assert chosen.vocabulary_size != config.vocabulary_size
    assert not any(line.startswith(("--max-tokens", "--epochs")) for line in reasons)
    lines = [line.split(": ")[0] for line in reasons]
    assert f"--vocabulary-size {chosen.vocabulary_size}" in lines
    assert "--learn-vectors" in lines


@pytest.mark.parametrize("rows", [1_000, 10_000])
def test_an_option_that_is_copied_changes_no_other(tmp_path: Path, rows: int) -> None:
    given = {"train": (write_reviews(tmp_path / "in.parquet", rows),)}
    shards = find_all_shards(best(**given))
    chosen, _ = choose(best(**given), shards)
    for name in left_open(best(**given)):
        value = getattr(chosen, name)
        assert choose(best(**given, **{name: value}), shards)[0] == chosen, name


def test_paths_that_are_made_absolute_leave_the_choice_open(tmp_path: Path) -> None:
    config = best(train=(str(tmp_path),))
    assert left_open(with_paths(config, lambda path: path)) == left_open(config) != []


def test_a_choice_is_final_and_repeatable(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "in.parquet", 1_000)
    first, _ = choose(best(train=(path,)), find_all_shards(best(train=(path,))))
    again, _ = choose(best(train=(path,)), find_all_shards(best(train=(path,))))
    assert left_open(first) == []
    assert choose(first, find_all_shards(first)) == (first, [])
    earlier = read_yaml(TrainConfig, to_yaml(first).encode())
    assert earlier is not None
    assert changed_since(earlier, again, str) == [], "the same command resumes the run"


def test_a_job_file_leaves_open_what_is_left_open(tmp_path: Path) -> None:
    config = best(train=(write_reviews(tmp_path / "in.parquet", 1_000),), epochs=2)
    written = tmp_path / "job.yaml"
    written.write_text(to_yaml(config), encoding="utf-8")
    assert "max_tokens" not in yaml.safe_load(written.read_text(encoding="utf-8"))
    read = resolve(TrainConfig, {}, written)
    assert choose(read, find_all_shards(read)) == choose(config, find_all_shards(config))


def test_the_validation_fraction_is_not_chosen_where_it_does_nothing(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "in.parquet", 1_000)
    config = best(train=(path,), validation=(path,), allow_seen_files=True)
    _, reasons = choose(config, find_all_shards(config))
    assert not any("validation-fraction" in line for line in reasons)


@pytest.mark.parametrize("others", ["validation", "embeddings", "unlabelled", "network"])
def test_a_run_in_which_others_settle_a_choice_resumes(tmp_path: Path, others: str) -> None:
    path = write_reviews(tmp_path / "in.parquet", 1_000)
    other = write_reviews(tmp_path / "other.parquet", 1_000)
    given = {others: "mine:build" if others == "network" else other if others == "embeddings" else (other,)}
    config = best(train=(path,), **given)
    chosen, _ = choose(config, find_all_shards(config))
    assert left_open(chosen) == []
    earlier = read_yaml(TrainConfig, to_yaml(chosen).encode())
    assert earlier is not None
    assert changed_since(earlier, chosen, str) == []


def test_a_choice_that_does_not_go_with_what_is_given_is_refused(tmp_path: Path) -> None:
    config = best(train=(write_reviews(tmp_path / "in.parquet", 1_000),), workers="40")
    with pytest.raises(ConfigError, match="--global-batch-size 32 cannot be divided among --workers 40"):
        choose(config, find_all_shards(config))


def test_a_table_of_ngrams_is_not_chosen_for_a_model_without_them(tmp_path: Path) -> None:
    config = best(train=(write_reviews(tmp_path / "in.parquet", 1_000),), ngrams=0)
    chosen, reasons = choose(config, find_all_shards(config))
    assert (chosen.ngrams, chosen.ngram_buckets) == (0, 2**20), "older versions read its bundle"
    assert not any("ngram" in line for line in reasons)


def test_what_a_search_draws_is_not_chosen(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "in.parquet", 1_000)
    search = {"units": {"choice": [8]}, "embeddings": {"choice": ["a.txt", "b.txt"]}}
    config = resolve(TuneConfig, {"preset": "best", "train": (path,), "output": "run", "search": search})
    chosen, reasons = choose(config, find_all_shards(config))
    assert not any(line.startswith(("--units", "--learn-vectors")) for line in reasons)
    trial = trial_config(chosen, 1)
    assert (trial.units, trial.learn_vectors, trial.ngrams) == (8, False, 2)
    earlier = read_yaml(TuneConfig, to_yaml(chosen).encode())
    assert earlier is not None
    assert changed_since(earlier, chosen, str) == []


def test_other_presets_leave_nothing_to_the_data() -> None:
    for preset in ("none", "lstm", "bilstm"):
        assert left_open(resolve(TrainConfig, {"preset": preset})) == []


@pytest.mark.parametrize(
    ("rows", "tokens", "unlabelled", "expected"),
    [
        (3_999, 50, 0, (0, "3,999 rows of up to 50 tokens, and no texts without labels")),
        (4_000, 200, 0, (6, "4,000 texts to predict words of")),
        (4_000, 201, 0, (0, "4,000 rows of up to 201 tokens, and no texts without labels")),
        (1_000, 50, 10, (6, "1,010 texts to predict words of")),
        (1_000, 900, 99_000, (4, "100,000 texts to predict words of")),
        (20_000, 50, 0, (0, "20,000 rows of up to 50 tokens, and no texts without labels")),
        (25_000, 900, 50_000, (6, "75,000 texts to predict words of")),
        (100_000, 50, 400_000, (0, "500,000 texts would take too long: give fewer, or a number")),
    ],
)
def test_the_lstm_learns_from_all_texts_first_if_that_pays(
    rows: int, tokens: int, unlabelled: int, expected: tuple[int, str]
) -> None:
    facts = DataFacts(rows, tokens, words=1_000, ngrams=10_000, row_ngrams=50, unlabelled=unlabelled)
    assert choices(facts)["pretrain_epochs"] == expected


@pytest.mark.parametrize(("pretrain_epochs", "epochs", "rate"), [(None, 3, 0.002), (1, 3, 0.002), (0, 6, 0.001)])
def test_after_pretraining_the_labels_are_learned_in_fewer_epochs(
    pretrain_epochs: int | None, epochs: int, rate: float
) -> None:
    facts = DataFacts(25_000, 900, words=60_000, ngrams=10**6, row_ngrams=300, unlabelled=50_000)
    chosen = choices(facts, pretrain_epochs)
    assert (chosen["epochs"][0], chosen["learning_rate"][0]) == (epochs, rate)
    assert ("output_dropout" in chosen) == (pretrain_epochs != 0)
    assert ("pretrain_epochs" in chosen) == (pretrain_epochs is None)


def test_a_number_of_passes_that_is_given_decides_too(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "in.parquet", 12_000)
    epochs = []
    for given in ({}, {"pretrain_epochs": 0}, {"pretrain_epochs": 2}, {"layers": 2}, {"network": "mine:build"}):
        config = best(train=(path,), **given)
        epochs.append(choose(config, find_all_shards(config))[0].epochs)
    assert epochs == [6, 12, 6, 12, 12]


def test_the_trials_of_a_search_do_not_pretrain_unless_they_are_told_to(tmp_path: Path) -> None:
    path = write_reviews(tmp_path / "in.parquet", 12_000)
    chosen = []
    for given in ({}, {"pretrain_epochs": 2}):
        search = {"units": {"choice": [8]}}
        config = resolve(TuneConfig, {"preset": "best", "train": (path,), "output": "run", "search": search, **given})
        config, _ = choose(config, find_all_shards(config))
        chosen.append((config.pretrain_epochs, config.epochs))
    assert chosen == [(0, 12), (2, 6)]
