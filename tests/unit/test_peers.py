"""Splits, draws, results, table and picture of benchmarks/peers.py, and the models that learn in a second."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str) -> Any:
    """Imports a script."""
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    return module


peers, models = load("peers"), load("peers_models")


def reviews(first: int, rows: int) -> pa.Table:
    """Returns reviews of which every third occurs twice."""
    numbers = [number - (number % 3 == 1) for number in range(first, first + rows)]
    labels = pa.array([number % 2 for number in range(rows)], pa.int8())
    return pa.table({"text": [f"review {number}" for number in numbers], "label": labels})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "imdb").mkdir()
    pq.write_table(reviews(0, 3_000), tmp_path / "app_reviews.parquet")
    pq.write_table(reviews(0, 300), tmp_path / "imdb" / "train.parquet")
    pq.write_table(reviews(240, 120), tmp_path / "imdb" / "dev.parquet")
    return tmp_path


@pytest.mark.parametrize(("corpus", "rows"), [("app_reviews", 3_000), ("imdb", 240 + 120)])
def test_a_text_is_in_training_or_in_test(data: Path, corpus: str, rows: int) -> None:
    training, test = peers.read_corpus(data, corpus)
    assert not set(training["text"].to_pylist()) & set(test["text"].to_pylist())
    assert training.num_rows + test.num_rows == rows


def test_a_fifth_is_for_testing_whatever_the_order_of_the_rows(data: Path) -> None:
    training, test = peers.read_corpus(data, "app_reviews")
    assert 0.17 < test.num_rows / 3_000 < 0.23
    rows = pq.read_table(data / "app_reviews.parquet")
    pq.write_table(rows.take(np.arange(3_000)[::-1]), data / "app_reviews.parquet")
    assert [part.num_rows for part in peers.read_corpus(data, "app_reviews")] == [training.num_rows, test.num_rows]


def test_a_seed_draws_the_rows(data: Path) -> None:
    training, _ = peers.read_corpus(data, "app_reviews")
    drawn = peers.draw(training, "500", 0)
    assert drawn.num_rows == 500
    assert drawn.equals(peers.draw(training, "500", 0))
    assert not drawn.equals(peers.draw(training, "500", 1))
    assert peers.draw(training, "2000", 0).slice(0, 500).equals(drawn)
    whole = peers.draw(training, "all", 0)
    assert not whole.equals(training)
    assert whole.sort_by([("text", "ascending"), ("label", "ascending")]).equals(
        training.sort_by([("text", "ascending"), ("label", "ascending")])
    )


def test_rows_are_kept_or_held_out() -> None:
    texts = [f"review {number}" for number in range(50)]
    kept, held_out = models.hold_out(texts, np.arange(50, dtype=np.int8), 0)
    assert len(held_out[0]) == 5
    assert sorted(kept[0] + held_out[0]) == sorted(texts)
    assert [texts[label] for label in kept[1]] == kept[0]


@pytest.mark.parametrize("peer", ["majority", "tfidf", "nb"])
def test_a_linear_model_scores_what_it_learned(tmp_path: Path, peer: str) -> None:
    rows, model, figures = (str(tmp_path / name) for name in ("rows.parquet", "model", "figures.json"))
    labels = [number % 3 != 0 for number in range(60)]
    texts = [f"{'Good' if label else 'Bad'} film {number}" for number, label in enumerate(labels)]
    pq.write_table(pa.table({"text": texts, "label": pa.array(labels).cast(pa.int8())}), rows)
    models.learn(peer, "0", rows, model)
    models.score(peer, model, rows, figures)
    measured = json.loads(Path(figures).read_text())
    if peer == "majority":
        entropy = -(2 / 3) * math.log(2 / 3) - (1 / 3) * math.log(1 / 3)
        assert measured["log_loss"] == pytest.approx(entropy)
        assert (measured["accuracy"], measured["balanced_accuracy"]) == (pytest.approx(2 / 3), 0.5)
    else:
        assert (measured["accuracy"], measured["balanced_accuracy"]) == (1, 1)
    assert measured["reviews_per_s"] > 0


def test_the_weights_of_nb_hold_the_ratios(tmp_path: Path) -> None:
    texts, labels = ["good good film", "bad film", "good", "bad"], np.array([1, 0, 1, 0], np.int8)
    models.learn_nb(texts, labels, 0, tmp_path)
    vectorizer, classifier = pickle.loads((tmp_path / "pipeline.pickle").read_bytes())
    names = " ".join(name.replace(" ", "_") for name in vectorizer.get_feature_names_out())
    assert names == "bad bad_film film good good_film good_good good_good_film"
    positive, negative = np.array([1, 1, 2, 3, 2, 2, 2]) / 13, np.array([3, 2, 2, 1, 1, 1, 1]) / 11
    binary = np.array([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]])
    expected = LogisticRegression(C=0.5, max_iter=1000).fit(binary * np.log(positive / negative), labels)
    np.testing.assert_allclose(classifier.coef_, expected.coef_ * np.log(positive / negative), rtol=1e-3)


RESULT = peers.Result(
    training_rows=500,
    test_rows=100,
    accuracy=0.8,
    balanced_accuracy=0.75,
    log_loss=0.5,
    train_s=2.0,
    train_cpu_s=1.0,
    reviews_per_s=20_000.0,
    peak_mb=300.0,
    model_mb=4.25,
)
CASES = [
    peers.Case("imdb", rows, peer, "", seed) for rows in ("500", "all") for seed in (0, 1) for peer in ("nb", "best")
]
WORSE = dataclasses.replace(RESULT, accuracy=0.7, reviews_per_s=50_000.0)
RESULTS = {CASES[0]: RESULT, CASES[2]: dataclasses.replace(RESULT, accuracy=0.9), CASES[3]: WORSE}


def test_the_table_shows_means_and_spread_and_the_best_in_bold() -> None:
    _, _, *lines = peers.table(CASES, RESULTS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [row[:5] for row in cells] == [
        ["imdb", "500", "nb", "2", "**85.0** ± 7.1"],
        ["imdb", "500", "best", "1", "70.0"],
        ["imdb", "all", "nb", "", "to come"],
        ["imdb", "all", "best", "", "to come"],
    ]
    assert [row[9] for row in cells[:2]] == ["20,000", "**50,000**"]


def test_the_picture_has_a_panel_for_each_corpus() -> None:
    cases = [peers.Case(corpus, "all", peer, "", 0) for corpus in ("imdb", "app_reviews") for peer in ("nb", "best")]
    assert peers.picture(cases, dict.fromkeys(cases, RESULT)).startswith(b"\x89PNG")


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    lines = (dataclasses.asdict(case) | dataclasses.asdict(result) for case, result in RESULTS.items())
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert peers.read_results(file) == RESULTS
    assert peers.read_results(tmp_path / "none.jsonl") == {}


def test_what_is_measured_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(peers, "run", lambda *_: None)
    monkeypatch.setattr(peers, "measure", lambda case, _: ran.append(case) or RESULT)
    for _ in range(2):
        peers.measure_all(CASES, tmp_path, tmp_path / "results.jsonl")
    assert ran == CASES


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(peers.PeerError, match=r"^ModuleNotFoundError: No module named 'no_such'$"):
        peers.run([sys.executable, "-c", "import no_such"], tmp_path)
    assert peers.reason("error: --preset is 'x'\nsee lstm-ray train --help\n") == "error: --preset is 'x'"


def test_unbeaten_are_those_that_none_is_superior_to() -> None:
    points = {"slow": (10.0, 0.9), "middle": (100.0, 0.8), "beaten": (50.0, 0.7), "fast": (1_000.0, 0.75)}
    assert peers.unbeaten(points) == ["slow", "middle", "fast"]


def test_a_panel_shows_each_peer() -> None:
    marks = peers.panel("imdb", {"nb": (2_000.0, 0.9), "best": (300.0, 0.93), "majority": (9e6, 0.5)}).marks
    texts = [mark.text for mark in marks if isinstance(mark, peers.Label)]
    assert {"nb", "best", "majority", "1,000"} <= set(texts)
    assert len([mark for mark in marks if isinstance(mark, peers.Dot)]) == 3
