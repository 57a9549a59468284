"""From files of reviews to a file of vectors, and the errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from lstm_ray.cli.app import app
from lstm_ray.config import VectorsConfig
from lstm_ray.errors import InputError, OutputError
from lstm_ray.progress import ignore
from lstm_ray.text.vocabulary import Vocabulary
from lstm_ray.text.word_vectors import read_word_vectors
from lstm_ray.vectors import run

TEXTS = ["a good film", None, "a bad film, not a good one", "GOOD film"] * 9


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Gives a file of reviews in several row groups."""
    path = tmp_path / "reviews.parquet"
    pq.write_table(pa.table({"review": TEXTS, "stars": range(len(TEXTS))}), path, row_group_size=10)
    return path


def config(reviews: Path, output: str = "vectors.txt", **settings: object) -> VectorsConfig:
    """Returns settings that take a moment to learn with."""
    given = {"size": 5, "epochs": 2, "text_column": "review", "output": str(reviews.parent / output), **settings}
    return VectorsConfig.model_validate({"text": (str(reviews),), **given})


def write(settings: VectorsConfig) -> run.LearnedFile:
    """Learns and writes."""
    return run.write_vectors(settings, ignore)


@pytest.mark.parametrize("name", ["vectors.txt", "new/vectors.txt.gz"])
def test_train_can_read_what_is_written(reviews: Path, name: str) -> None:
    made = write(config(reviews, name))
    assert (made.texts, made.words, made.occurrences) == (27, 6, 9 * 12)
    words = pa.array(["good", "one", "absent"], pa.large_string())
    found = read_word_vectors(made.output, Vocabulary(words, pa.array([1, 1, 1], pa.int64()), 100))
    assert found.ids.tolist() == [4, 5]
    assert found.vectors.shape == (2, 5)
    assert np.abs(found.vectors).max() > 0.01
    again = write(config(reviews, "again" + Path(name).suffix))
    assert Path(again.output).read_bytes() == Path(made.output).read_bytes()


def test_a_file_is_replaced_only_on_request(reviews: Path) -> None:
    write(config(reviews))
    with pytest.raises(OutputError, match=r"vectors.txt: exists already: choose another --output, or pass --overwrite"):
        write(config(reviews, seed=1))
    before = reviews.with_name("vectors.txt").read_bytes()
    write(config(reviews, seed=1, overwrite=True))
    assert reviews.with_name("vectors.txt").read_bytes() != before


def test_what_cannot_be_read_or_written_is_reported_first(reviews: Path) -> None:
    with pytest.raises(InputError, match=r"reviews.parquet: no column 'text'; it has 'review', 'stars'"):
        write(config(reviews, text_column="text"))
    with pytest.raises(InputError, match="column 'stars' is int64, expected text"):
        write(config(reviews, text_column="stars"))
    with pytest.raises(InputError, match="no word occurs 99 times in 27 texts"):
        write(config(reviews, min_count=99))
    with pytest.raises(OutputError, match=r"cannot be written: .*reviews\.parquet is not a directory"):
        write(config(reviews, "reviews.parquet/vectors.txt"))
    assert [path.name for path in reviews.parent.iterdir()] == ["reviews.parquet"]


def test_the_command_says_what_it_did_and_what_comes_next(reviews: Path) -> None:
    output = reviews.with_name("my vectors.txt")
    options = ["--text-column", "review", "--size", "5", "--max-rows", "30", "--punctuation", "keep"]
    options += ["--no-strip-html"]
    done = CliRunner().invoke(app, ["vectors", "--text", str(reviews), "--output", str(output), *options])
    assert done.exit_code == 0, done.output
    assert "Learned\ntexts    22 with 99 words\nvectors  7, 5 numbers each\nspeed " in done.stdout
    next_command = f"--embeddings '{output}' --embedding-size 5 --text-column review --no-strip-html --punctuation keep"
    assert next_command in done.stdout
    assert output.exists()
