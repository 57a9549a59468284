"""The demo corpus: the same on every machine, balanced, and too hard for a model that only counts words."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from lstm_ray.datasets.demo import write_demo
from lstm_ray.datasets.demo_grammar import NEGATIVE, POSITIVE
from lstm_ray.errors import ConfigError, OutputError

ROWS = 8_000
SCHEMA = [("id", "string"), ("text", "string"), ("label", "int8"), ("topic", "string"), ("product", "string")]
FIRST_200_ROWS_SHA256 = "0b42c7312fc285b458a3058fef89da17e1ce84f6be9a65412655872dbfdb0310"


def training_rows(directory: Path, rows: int, seed: int = 0) -> pa.Table:
    return pq.read_table(write_demo(directory, rows=rows, seed=seed).train)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    return training_rows(tmp_path_factory.mktemp("demo"), ROWS)


def sha256(table: pa.Table) -> str:
    return hashlib.sha256(json.dumps(table.to_pylist(), ensure_ascii=False).encode()).hexdigest()


def tokens(text: str) -> list[str]:
    return re.findall(r"[\w'-]+", text.lower().replace("<br />", " "))


# The same everywhere


def test_a_seed_pins_every_character(reviews: pa.Table) -> None:
    assert sha256(reviews.slice(0, 200)) == FIRST_200_ROWS_SHA256


def test_more_rows_only_append(tmp_path: Path, reviews: pa.Table) -> None:
    assert training_rows(tmp_path, 101).equals(reviews.slice(0, 101))


def test_another_seed_gives_other_texts(tmp_path: Path, reviews: pa.Table) -> None:
    other = training_rows(tmp_path, 1_000, seed=1)["text"].to_pylist()
    assert not set(other) & set(reviews["text"].to_pylist())


# What the rows are like


def test_the_schema_says_that_the_reviews_are_synthetic(reviews: pa.Table) -> None:
    assert [(field.name, str(field.type)) for field in reviews.schema] == SCHEMA
    assert reviews.schema.metadata[b"synthetic"] == b"true"


def test_the_classes_are_balanced_in_every_pair_of_rows(reviews: pa.Table) -> None:
    labels = reviews["label"].to_pylist()
    assert all(first + second == 1 for first, second in zip(labels[::2], labels[1::2], strict=True))
    assert 0.45 < sum(labels[::2]) / len(labels[::2]) < 0.55  # which of the two comes first is drawn


def test_ids_and_texts_are_unique_and_texts_clean(reviews: pa.Table) -> None:
    texts = reviews["text"].to_pylist()
    assert len(set(texts)) == len(set(reviews["id"].to_pylist())) == ROWS
    for text in texts:
        assert text == text.strip()
        assert text[0] == text[0].upper()
        assert not re.search(r"[@{}%]|  |\ba [aeio]\w|\ban [^aeiouh\W]|%s", text), text


def test_lengths_and_vocabulary(reviews: pa.Table) -> None:
    by_text = [tokens(text) for text in reviews["text"].to_pylist()]
    lengths = sorted(map(len, by_text))
    assert lengths[0] >= 8
    assert lengths[-1] <= 75
    assert 25 <= lengths[ROWS // 2] <= 40
    assert len({token for text in by_text for token in text}) >= 1_500


def test_the_product_is_named_and_topics_are_even(reviews: pa.Table) -> None:
    counts = Counter(reviews["topic"].to_pylist())
    assert len(counts) == 8
    assert min(counts.values()) > 0.8 * ROWS / 8
    named = [row["product"] in row["text"] for row in reviews.to_pylist()]
    assert 0.3 < sum(named) / ROWS < 1


def test_markup_accents_and_emoji_occur(reviews: pa.Table) -> None:
    texts = "\n".join(reviews["text"].to_pylist())
    assert texts.count("<br />") > 100
    assert re.search("[éüåñ]", texts)
    assert re.search("[\U0001f300-\U0001faff]", texts)


# Order decides


@pytest.mark.parametrize(
    "pattern",
    [
        r"was not \w+ ",
        r"othing about .* was",
        r"was (anything but|far from)",
        r"either .* nor .* was",
        r"ot only was .* but .* too",
        r"can't say that .* was not",
        r", but in the end .* was",
        r", even though .* was",
        r"lthough .* was .*, and that is what counts",
        r"than the \S+ one before it",
        r"was no \w+ than",
        r"could not agree more",
        r"could not disagree more",
        r"I expected an? \w+ and got",
        r"what I got was .*, not the",
        r"I suppose .*, more or less,",
    ],
)
def test_every_construct_speaks_for_both_classes_alike(reviews: pa.Table, pattern: str) -> None:
    found = [row["label"] for row in reviews.to_pylist() if re.search(pattern, row["text"], re.IGNORECASE)]
    assert len(found) >= 30
    assert abs(sum(found) / len(found) - 0.5) < 4 * 0.5 / len(found) ** 0.5  # four standard deviations


def test_every_common_word_is_in_both_classes(reviews: pa.Table) -> None:
    counts = {0: Counter[str](), 1: Counter[str]()}
    for text, label in zip(reviews["text"].to_pylist(), reviews["label"].to_pylist(), strict=True):
        counts[label].update(set(tokens(text)))
    polar = {word for words in (POSITIVE, NEGATIVE) for word in (*words[""], *words["v"], *words["m"])}
    shares = {
        word: counts[1][word] / total
        for word in counts[0] | counts[1]
        if (total := counts[0][word] + counts[1][word]) >= 40
    }
    assert len(shares) > 700
    assert all(0.2 < share < 0.8 for word, share in shares.items() if word not in polar)
    means = {}
    for name, words in (("positive", POSITIVE[""]), ("negative", NEGATIVE[""])):
        known = [shares[word] for word in words if word in shares]
        means[name] = sum(known) / len(known)
    assert 0.5 < means["positive"] < 0.65  # leans the way it should, but only so far
    assert 0.35 < means["negative"] < 0.5


def test_counting_words_is_not_enough(reviews: pa.Table) -> None:
    texts, labels = reviews["text"].to_pylist(), reviews["label"].to_pylist()
    split = 6_000
    vectorizer = CountVectorizer()
    train = vectorizer.fit_transform(texts[:split])
    held_out = vectorizer.transform(texts[split:])
    for inverse_penalty in (0.01, 0.1, 1.0):
        model = LogisticRegression(C=inverse_penalty, solver="liblinear").fit(train, labels[:split])
        assert model.score(held_out, labels[split:]) < 0.7


# The files


def test_the_files(tmp_path: Path) -> None:
    files = write_demo(tmp_path / "out", rows=1_000)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train.parquet", "test.parquet", "reviews.parquet"}
    train, test, reviews = (pq.read_table(path) for path in (files.train, files.test, files.reviews))
    assert (files.train_rows, files.test_rows, files.reviews_rows) == (1_000, 250, 1_000)
    assert (train.num_rows, test.num_rows, reviews.num_rows) == (1_000, 250, 1_000)
    assert [(field.name, str(field.type)) for field in train.schema] == SCHEMA
    assert train.schema.equals(test.schema)
    assert reviews.column_names == ["id", "text", "product"]
    for table in (train, test, reviews):
        assert table.schema.metadata[b"synthetic"] == b"true"
    texts = reviews["text"].to_pylist()
    assert texts.count(None) == 3
    assert texts.count("") == 3
    distinct = set(train["text"].to_pylist()) | set(test["text"].to_pylist()) | (set(texts) - {None, ""})
    assert len(distinct) == 1_000 + 250 + 994  # no text stands in two files


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    one, same, other = (write_demo(tmp_path / str(n), rows=100, seed=seed) for n, seed in enumerate((3, 3, 4)))
    assert one.train.read_bytes() == same.train.read_bytes()
    assert one.reviews.read_bytes() == same.reviews.read_bytes()
    assert one.train.read_bytes() != other.train.read_bytes()


def test_files_that_are_there_are_kept_unless_overwrite(tmp_path: Path) -> None:
    files = write_demo(tmp_path, rows=10)
    before = files.test.read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        write_demo(tmp_path, rows=20, seed=1)
    assert files.test.read_bytes() == before
    assert pq.read_metadata(write_demo(tmp_path, rows=20, overwrite=True).train).num_rows == 20


@pytest.mark.parametrize(("rows", "seed", "setting"), [(0, 0, "rows"), (-5, 0, "rows"), (10, -1, "seed")])
def test_settings_that_cannot_be(tmp_path: Path, rows: int, seed: int, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} must be"):
        write_demo(tmp_path / "out", rows=rows, seed=seed)
