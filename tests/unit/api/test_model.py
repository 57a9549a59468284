"""A loaded model: what it takes, and what it returns."""

from __future__ import annotations

import math
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import lstm_ray
from lstm_ray.config import Precision
from lstm_ray.errors import BundleError, ConfigError, InputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.score.scorer import Encoder, Scorer
from lstm_ray.text.sequences import pad_batch

TEXTS = ["a good film", None, "?!", "bad acting"]


@pytest.fixture
def model(tiny_bundle: Path) -> lstm_ray.Model:
    """Loads an untrained model."""
    return lstm_ray.load(tiny_bundle)


def test_predictions_are_the_scores_of_the_scorer(model: lstm_ray.Model, tiny_bundle: Path) -> None:
    expected = Scorer(read_bundle(str(tiny_bundle)), "native", 1).score(pa.array(TEXTS))
    predictions = model.predict(TEXTS)
    assert [one.probability for one in predictions] == expected.probability.to_pylist()
    assert [one.label for one in predictions] == expected.sentiment.to_pylist()
    assert [one.error for one in predictions] == [None, "null_text", "no_words", None]
    assert model.predict("a good film") == predictions[0] == model.predict(b"a good film")
    assert model.predict(["\ud800", b"\xff"]) == [lstm_ray.Prediction(None, None, "invalid_utf8")] * 2
    assert model.predict([]) == []
    assert model.predict(np.array([np.nan], np.float32)) == [predictions[1]], "a batch of Ray Data without a text"


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        np.array(TEXTS, object),
        pd.Series([math.nan if text is None else text for text in TEXTS]),
        pd.Series(TEXTS, dtype="string"),
        iter(TEXTS),
    ],
    ids=lambda column: type(column).__name__,
)
def test_a_column_of_any_kind_is_a_list_of_texts(model: lstm_ray.Model, column: Any) -> None:
    assert model.predict(column) == model.predict(TEXTS)


def test_probabilities_are_those_of_both_labels(model: lstm_ray.Model) -> None:
    probabilities = model.predict_proba(TEXTS)
    assert (probabilities.shape, probabilities.dtype) == ((4, 2), np.float32)
    assert np.isnan(probabilities[1:3]).all()
    np.testing.assert_allclose(probabilities[[0, 3]].sum(axis=1), 1, rtol=1e-6)
    assert probabilities[0, model.labels.index("positive")] == model.predict("a good film").probability


def test_the_keras_model_computes_the_same_from_token_ids(model: lstm_ray.Model, tiny_bundle: Path) -> None:
    bundle = read_bundle(str(tiny_bundle))
    sequences = Encoder(bundle).encode(pa.array(["a good film", "bad acting"])).sequences
    token_ids = pad_batch(sequences, 2, bundle.text.max_tokens, bundle.text.padding)
    expected = [one.probability for one in model.predict(["a good film", "bad acting"])]
    np.testing.assert_allclose(np.asarray(model.to_keras()(token_ids))[:, 0], expected, rtol=0, atol=1e-6)


def test_a_batch_gets_the_columns_of_score(model: lstm_ray.Model) -> None:
    table = pa.table({"id": [1, 2, 3, 4], "review": TEXTS})
    scored = model.score_table(table, text_column="review", prefix="new_")
    names = ["id", "review", "new_sentiment_probability", "new_sentiment", "new_sentiment_error"]
    assert scored.column_names == names
    assert scored["new_sentiment"].to_pylist() == [one.label for one in model.predict(TEXTS)]
    assert model(table, "review", "new_").equals(scored)
    frame = model(table.to_pandas(), "review", "new_")
    arrays = model({"id": np.arange(4), "review": np.array(TEXTS, object)}, "review", "new_")
    assert list(frame) == list(arrays) == names
    for batch in (frame, arrays):
        np.testing.assert_array_equal(batch["new_sentiment_probability"], model.predict_proba(TEXTS)[:, 1])
        errors = [
            None if pd.isna(error) else error for error in batch["new_sentiment_error"]
        ]  # pandas makes NaN of None
        assert errors == [None, "null_text", "no_words", None]


def test_a_model_is_pickled_by_its_path(model: lstm_ray.Model, tiny_bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "model"
    shutil.copytree(tiny_bundle, moved)
    pickled = pickle.dumps(lstm_ray.load(moved))
    assert len(pickled) < 1_000
    again = pickle.loads(pickled)
    assert again.predict(TEXTS) == model.predict(TEXTS)
    assert pickle.loads(pickled) is again, "Ray Data unpickles it for every task"
    shutil.rmtree(moved)
    other = pickle.dumps(model).replace(model._bundle.hash.encode(), b"0" * 64)
    with pytest.raises(BundleError, match="has changed since the model was loaded"):
        pickle.loads(other)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (5, "texts= is of type int: give a text, or a column or list of texts"),
        ({"text": "good"}, "texts= is of type dict: give a text"),
        (pd.DataFrame({"text": ["good"]}), "texts= is of type DataFrame: give a text"),
        (["good", 5], "text 1 is of type int"),
        (pa.array([1, 2]), "the texts are int64"),
    ],
)
def test_what_is_no_text_is_refused(model: lstm_ray.Model, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(texts)


def test_score_table_wants_an_arrow_table(model: lstm_ray.Model) -> None:
    frame = pd.DataFrame({"review": ["good"]})
    with pytest.raises(
        InputError, match=r"expected an Arrow table, not DataFrame: use model\(dataframe, text_column='review'"
    ) as error:
        model.score_table(frame, text_column="review", prefix="new_")  # type: ignore[arg-type]
    call = str(error.value).rpartition(": use ")[2]
    assert "new_sentiment" in eval(call, {"model": model, "dataframe": frame}).columns


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), pd.NA], ids=str)
def test_one_missing_text_is_as_in_a_list(model: lstm_ray.Model, missing: Any) -> None:
    assert model.predict(missing) == model.predict([missing])[0]
    assert model.predict(missing).error == "null_text"
    assert model.explain(missing) == model.explain([missing])[0]
    assert np.isnan(model.predict_proba(missing)).tolist() == [[True, True]]


def test_wrong_columns_are_refused(model: lstm_ray.Model) -> None:
    with pytest.raises(InputError, match="no column 'text'; it has 'review': did you mean text_column='review'"):
        model.score_table(pa.table({"review": TEXTS}))
    with pytest.raises(ConfigError, match="column 'sentiment' exists already: give the new columns a prefix="):
        model({"text": TEXTS, "sentiment": TEXTS})


def test_texts_without_a_table_are_for_predict(model: lstm_ray.Model) -> None:
    for texts in ("a good film", TEXTS, pd.Series(TEXTS)):
        for score in (model, model.score_table):
            with pytest.raises(InputError, match=f"expected .*, not {type(texts).__name__}; .* for `predict`"):
                score(texts)  # type: ignore[operator]


def test_a_missing_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such model bundle"):
        lstm_ray.load(tmp_path / "none")


def test_an_explanation_has_the_score_and_the_words(model: lstm_ray.Model) -> None:
    explained = model.explain(TEXTS)
    assert [one.prediction for one in explained] == model.predict(TEXTS)
    assert [sorted(word.word for word in one.words) for one in explained] == [
        ["a", "film", "good"],
        [],
        [],
        ["acting", "bad"],
    ]
    assert model.explain("a good film") == model.explain(b"a good film") == explained[0]
    assert model.explain([b"\xff"])[0].words == []
    with pytest.raises(InputError, match="text 1 is of type int"):
        model.explain(["good", 5])  # type: ignore[list-item]


def test_a_precision_is_pickled_with_the_model(
    model: lstm_ray.Model, tiny_bundle: Path, low_precision: Precision
) -> None:
    exact = model.predict_proba(["a good film"])
    low = lstm_ray.load(tiny_bundle, precision=low_precision)
    again = pickle.loads(pickle.dumps(low))
    assert repr(again) == f"lstm_ray.load({str(tiny_bundle)!r}, precision={low_precision!r})"
    np.testing.assert_array_equal(again.predict_proba(["a good film"]), low.predict_proba(["a good film"]))
    assert 0 < np.abs(low.predict_proba(["a good film"]) - exact).max() < 0.01
    with pytest.raises(ConfigError, match="pass its path, and precision= to the call"):
        lstm_ray.evaluate("in.parquet", model=low)


def test_an_unknown_precision_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match=r"^precision= is 'half': should be 'float32', 'bf16' or 'int8'"):
        lstm_ray.load(tiny_bundle, precision="half")  # type: ignore[arg-type]


def test_a_threshold_and_a_band_are_pickled_with_the_model(tiny_bundle: Path) -> None:
    probability = lstm_ray.load(tiny_bundle).predict("a good film").probability
    assert probability is not None
    above = lstm_ray.load(tiny_bundle, threshold=min(0.99, probability + 0.01))
    assert (above.predict("a good film").label, above.threshold) == ("negative", min(0.99, probability + 0.01))
    unsure = lstm_ray.load(tiny_bundle, threshold=probability, unsure=(0.001, 0.999))
    again = pickle.loads(pickle.dumps(unsure))
    assert again.predict("a good film").label == unsure.predict("a good film").label == "unsure"
    assert repr(again) == f"lstm_ray.load({str(tiny_bundle)!r}, threshold={probability!r}, unsure=(0.001, 0.999))"
    with pytest.raises(ConfigError, match="pass its path, and threshold= and unsure= to the call"):
        lstm_ray.evaluate("in.parquet", model=unsure)
    with pytest.raises(ConfigError, match=r"^threshold= is 1\.5: should be less than 1"):
        lstm_ray.load(tiny_bundle, threshold=1.5)
    with pytest.raises(ConfigError, match=r"^unsure='0\.1:0\.2' has no room for the threshold"):
        lstm_ray.load(tiny_bundle, unsure="0.1:0.2", threshold=0.5)
