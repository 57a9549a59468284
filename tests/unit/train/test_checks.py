"""Checks of a run's settings against its files, and notes on its speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import changed

from lstm_ray.config import TrainConfig, resolve
from lstm_ray.errors import ConfigError
from lstm_ray.train import checks


def test_a_run_among_its_own_inputs_is_refused(tmp_path: Path) -> None:
    """The run's history.parquet would be read as reviews the next time."""
    for side in ("train", "validation"):
        config = TrainConfig.model_validate({"train": ("x",), side: (str(tmp_path),), "output": str(tmp_path / "run")})
        with pytest.raises(
            ConfigError,
            match=r"--output .*/run is inside the input .*, so the next run would read its history as reviews: ",
        ):
            checks.check_inputs(config)
    assert list(tmp_path.iterdir()) == []


def test_keys_in_the_uri_of_mlflow_are_refused_before_they_are_written(settings: TrainConfig) -> None:
    with pytest.raises(ConfigError, match=r"keys in it, .* MLFLOW_TRACKING_PASSWORD, or .*_URI to .* --mlflow yes$"):
        checks.check_inputs(changed(settings, mlflow="https://user:PLANTED@tracking:5000"))


def test_word_vectors_of_another_size_are_refused(settings: TrainConfig, tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("good 1 2 3\nbad 4 5 6\n", encoding="utf-8")
    checks.check_inputs(changed(settings, embeddings=str(path)))
    said = r"its vectors have 3 dimensions, but --embedding-size is 8: use --embedding-size 3"
    with pytest.raises(ConfigError, match=said):
        checks.check_inputs(changed(settings, embeddings=str(path), embedding_size=8))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"ngram_c": 2.0, "ngram_refit": True}, ["without --ngrams there is no effect of --ngram-c, --ngram-refit"]),
        ({"ngram_c": 2.0, "ngrams": 2, "ngram_rows": 5}, []),
        ({"vector_window": 3}, ["without --learn-vectors or --unlabelled there is no effect of --vector-window"]),
        ({"vector_window": 3, "learn_vectors": True}, []),
        ({"shared_dropout": True}, ["without --embedding-dropout there is no effect of --shared-dropout"]),
        ({"shared_dropout": True, "embedding_dropout": 0.1}, []),
        ({"preset": "best", "ngrams": 0}, []),  # the preset's own --ngram-refit
    ],
)
def test_settings_without_effect_are_noted(given: dict[str, Any], expected: list[str]) -> None:
    config = resolve(TrainConfig, {"preset": "none", "train": ("a",), "output": "b", **given})
    assert list(checks.notes_on_no_effect(config, ())) == expected


def test_what_training_chose_is_not_noted(settings: TrainConfig) -> None:
    config = changed(settings, shared_dropout=True)
    assert list(checks.notes_on_no_effect(config, ["shared_dropout"])) == []


def test_what_makes_a_run_slower_or_worse_is_noted(settings: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def notes(config: TrainConfig, on_gpu: bool = False, may_have_gpu: bool = False) -> str:
        monkeypatch.setattr(checks, "may_have_gpu", lambda: may_have_gpu)
        return "\n".join(checks.performance_notes(config, on_gpu))

    assert notes(settings) == ""
    assert "use --mask" in notes(changed(settings, padding="post"))
    assert "TensorFlow sees none: training on the CPU" in notes(settings, may_have_gpu=True)
    assert notes(changed(settings, workers=1), may_have_gpu=True) == "", "of this machine, not of Ray's workers"
    assert notes(settings, on_gpu=True, may_have_gpu=True) == ""
    slow = changed(settings, recurrent_dropout=0.1)
    assert notes(slow) == ""
    assert "on a GPU this trains several times slower" in notes(slow, on_gpu=True, may_have_gpu=True)
    large = changed(settings, units=2048, max_tokens=400, global_batch_size=256)
    assert notes(large) == ""
    assert "each GPU needs at least 5,3" in notes(large, on_gpu=True)
    assert "Keras decides" in notes(changed(settings, network="mine:build"), on_gpu=True)
