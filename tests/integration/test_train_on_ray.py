"""Training on Ray: any number of workers ends with the weights of one process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from heads import RayCluster

from lstm_ray.config import TrainConfig
from lstm_ray.errors import InputError
from lstm_ray.model.bundle import Bundle, read_bundle
from lstm_ray.progress import ignore
from lstm_ray.score.scorer import Scorer
from lstm_ray.train.loop import checkpoints
from lstm_ray.train.results import Outcome
from lstm_ray.train.run import train

TOLERANCE = 1e-5
NETWORKS: dict[str, dict[str, Any]] = {
    # 231 rows to train on: 46 steps of 5 rows and one of a single row, which leaves the second worker none.
    "lstm": {"global_batch_size": 5},
    "masked-bilstm": {"global_batch_size": 5, "mask": True, "bidirectional": True, "pooling": "max"},
    "ngrams": {"global_batch_size": 5, "ngrams": 2, "ngram_buckets": 1000},
    "masked-weighted": {
        "global_batch_size": 5,
        "mask": True,
        "padding": "post",
        "pooling": "mean",
        "clip_norm": 0.05,
        "class_weights": "balanced",
    },
    "by-tensorflow": {"global_batch_size": 5, "engine": "keras"},
    "clipped": {
        "global_batch_size": 5,
        "clip_norm": 0.05,
        "accumulate": 2,
        "schedule": "cosine",
        "warmup_steps": 9,
        "class_weights": "balanced",
    },
}

_MORE = [("lstm", 1), ("masked-bilstm", 2), ("clipped", 2), ("ngrams", 2), ("masked-weighted", 3), ("by-tensorflow", 2)]
CASES = [("lstm", 2), *(pytest.param(*case, marks=pytest.mark.second_tier) for case in _MORE)]


@dataclass(frozen=True)
class Run:
    """A finished run and its files."""

    config: TrainConfig
    outcome: Outcome
    bundle: Bundle
    variables: list[np.ndarray]


Trained = Callable[[str, int], Run]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, reviews: Path, running: RayCluster) -> Trained:
    """Gives a function that trains a network with a number of workers, once a session."""
    runs: dict[tuple[str, int], Run] = {}

    def run(network: str, workers: int) -> Run:
        if (network, workers) not in runs:
            output = tmp_path_factory.mktemp(f"{network}-{workers}")
            config = settings(reviews, output, workers=workers, **NETWORKS[network])
            if workers:
                command = ("train", "--config", job_file(config, output.with_suffix(".yaml")))
                more = ("--collective", "tensorflow") if network == "by-tensorflow" else ()
                done = running.lstm_ray(*command, "--address", running.address, *more)
                assert done.returncode == 0, done.stderr
                assert ("gradients are summed by TensorFlow's collectives (ring), " in done.stderr) == bool(more)
            outcome = train(config, ignore)  # with workers it is complete already, and only read
            assert outcome.was_complete == bool(workers)
            checkpoint = checkpoints.latest(str(output))
            assert checkpoint is not None
            variables = [*checkpoint.variables, *checkpoint.ngrams]
            runs[network, workers] = Run(config, outcome, read_bundle(str(output / "model")), variables)
        return runs[network, workers]

    return run


def settings(reviews: Path, output: Path, **changes: Any) -> TrainConfig:
    """Returns settings of a network of 8 units."""
    return TrainConfig.model_validate(
        {
            "preset": "none",
            "train": (str(reviews),),
            "output": str(output),
            "vocabulary_size": 200,
            "max_tokens": 24,
            "embedding_size": 8,
            "units": 8,
            "dropout": 0.0,
            "learning_rate": 0.01,
            "epochs": 2,
            "cpus_per_worker": 0.5,
            **changes,
        }
    )


def job_file(config: TrainConfig, path: Path) -> Path:
    """Writes the job file of a run."""
    path.write_text(yaml.safe_dump({"command": "train", **config.model_dump(mode="json")}), encoding="utf-8")
    return path


@pytest.mark.parametrize(("network", "workers"), CASES)
def test_ray_workers_learn_what_one_process_learns(trained: Trained, network: str, workers: int) -> None:
    alone, shared = trained(network, 0), trained(network, workers)
    steps = -(-alone.outcome.training_rows // alone.config.global_batch_size) * alone.config.epochs
    assert steps >= 50
    assert alone.outcome.training_rows % alone.config.global_batch_size == 1, "the last batch has one row"
    assert shared.outcome.training_rows == alone.outcome.training_rows
    for one, other in zip(alone.variables, shared.variables, strict=True):
        np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.parametrize(("network", "workers"), CASES)
def test_history_and_bundle_are_those_of_one_process(trained: Trained, network: str, workers: int) -> None:
    alone, shared = trained(network, 0), trained(network, workers)
    for one, other in zip(alone.outcome.state.history, shared.outcome.state.history, strict=True):
        for name in set(one) - {"seconds", "rows_per_s"}:
            assert other[name] == pytest.approx(one[name], abs=1e-4), name
    assert shared.outcome.state.best_epoch == alone.outcome.state.best_epoch
    assert shared.bundle.files["vocabulary.parquet"] == alone.bundle.files["vocabulary.parquet"]
    assert shared.bundle.text == alone.bundle.text
    texts = pa.array(["word1 splendid word2", "dreadful", "word7 " * 40])
    one, other = (Scorer(run.bundle, "native", 1).score(texts).probability for run in (alone, shared))
    np.testing.assert_allclose(other.to_numpy(), one.to_numpy(), atol=1e-5)


def test_a_run_leaves_everything_that_is_promised(trained: Trained) -> None:
    output = Path(trained("lstm", 2).config.output)
    promised = {"model", "checkpoints", "tensorboard", "history.parquet", "history.png", "metrics.json"}
    promised |= {"config.yaml", "report.html"}
    assert promised <= {path.name for path in output.iterdir()}
    assert pq.read_table(output / "history.parquet")["epoch"].to_pylist() == [1, 2]
    for side in ("train", "validation"):
        assert len(list((output / "tensorboard" / side).iterdir())) == 2, "rank 0 alone writes, a file an epoch"
    assert len(list((output / "checkpoints").glob("epochs_*.npz"))) == checkpoints.KEPT


def test_the_same_command_again_says_that_the_run_is_complete(trained: Trained, running: RayCluster) -> None:
    output = Path(trained("lstm", 2).config.output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    done = running.lstm_ray("train", "--config", output / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert "already complete" in done.stderr
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


def test_a_run_goes_on_with_another_number_of_workers(trained: Trained, reviews: Path, tmp_path: Path) -> None:
    """One more epoch of a run by 2 workers, in this process: the same as 3 epochs in this process."""
    finished = Path(trained("lstm", 2).config.output)
    shutil.copytree(finished, tmp_path / "continued")
    for name in ("continued", "alone"):
        train(settings(reviews, tmp_path / name, **{**NETWORKS["lstm"], "epochs": 3}), ignore)
    continued, alone = (checkpoints.latest(str(tmp_path / name)) for name in ("continued", "alone"))
    assert continued is not None
    assert alone is not None
    assert [row["epoch"] for row in continued.state.history] == [1, 2, 3]
    for one, other in zip(alone.variables, continued.variables, strict=True):
        # Sums in another order: what they differ by has grown over three epochs, to 3e-5 here.
        np.testing.assert_allclose(other, one, atol=10 * TOLERANCE, rtol=10 * TOLERANCE)


def test_an_error_on_ray_is_the_one_line_it_would_be_without(
    reviews: Path, tmp_path: Path, running: RayCluster
) -> None:
    bad = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"text": ["good", "bad", "ugly"], "label": [0, 1, 7]}), bad)
    config = settings(reviews, tmp_path / "run", train=(str(bad),))
    with pytest.raises(InputError) as alone:
        train(config, ignore)
    command = ("train", "--config", job_file(config, tmp_path / "job.yaml"), "--workers", 2)
    done = running.lstm_ray(*command, "--address", running.address)
    assert done.returncode == 1, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert errors == [f"error: {alone.value}"]
    assert f"{bad}: column 'label', row 2: label 7 is neither 0 nor 1" in errors[0]
    assert not (tmp_path / "run").exists()
