"""A loaded model: scores texts in this process, without Ray and usually without TensorFlow."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lstm_ray import storage
from lstm_ray.api.boundary import as_path, python_call
from lstm_ray.config import DecisionSettings, Precision, PrecisionSettings, known_settings, resolve
from lstm_ray.errors import BundleError, ConfigError, InputError
from lstm_ray.model.bundle import read_bundle
from lstm_ray.model.explain import WordWeight
from lstm_ray.score.columns import NEW_COLUMNS
from lstm_ray.score.scorer import SENTIMENTS, Scored, Scorer, pick_engine
from lstm_ray.text.tokenize import is_text_type
from lstm_ray.wording import no_column

if TYPE_CHECKING:
    import keras

Text = str | bytes | None
"""A text: a str, UTF-8 as bytes, or None if it is missing."""

_ARGUMENTS = {"text_column": str, "prefix": str, "threshold": float, "unsure": str, "precision": str}


class _LoadSettings(PrecisionSettings, DecisionSettings):
    """The settings of a loaded model."""


@dataclass(frozen=True)
class Prediction:
    """The score of a text.

    Attributes:
        label: "positive", "negative" or, with a range of unsure probabilities, "unsure"; None if the text cannot be
            scored.
        probability: Probability of the positive class; None if the text cannot be scored.
        error: Why the text cannot be scored, such as "null_text" or "no_words"; otherwise None.
    """

    label: str | None
    probability: float | None
    error: str | None


@dataclass(frozen=True)
class Explanation:
    """The score of a text, and how much each of its words contributes.

    Attributes:
        prediction: The score.
        words: The distinct words that the model reads, largest absolute weight first; empty without a score. `weight`
            is the log odds of the positive class minus those of the text without the word: above 0, the word makes the
            text more positive. `spans` are the word's positions in the text.
    """

    prediction: Prediction
    words: list[WordWeight]


class Model:
    """A model bundle, ready to score. Only its path is pickled: the process that unpickles it reads the bundle again.

    Attributes:
        path: Directory or URI of the bundle.
        labels: The names of the two classes, in the order of `predict_proba`.
        threshold: Probability above which a text counts as positive.
        metrics: Validation metrics of the epoch that was kept; empty if there was no validation.
        note: A warning if the user code of the network has changed since training; otherwise None.
    """

    labels: tuple[str, str] = SENTIMENTS

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int | None = None,
        threshold: float | None = None,
        unsure: str | tuple[float, float] | None = None,
        precision: Precision = "float32",
    ) -> None:
        """Reads a bundle.

        Args:
            path: Directory or URI of the bundle; `train` writes it to OUTPUT/model.
            threads: Threads that score; None for one per core that this process may use.
            threshold: Probability above which a text counts as positive; None for the bundle's.
            unsure: Range of probabilities, such as "0.4:0.6" or (0.4, 0.6), that are labelled "unsure".
            precision: "bf16" and "int8" score faster than "float32", and differ a little.

        Raises:
            BundleError: The bundle is missing or damaged, or needs a newer version of lstm-ray.
            ConfigError: The threshold is not between 0 and 1, or not within `unsure`; or the processor does not support
                the precision.
        """
        with python_call(_ARGUMENTS):
            self.path = storage.absolute(as_path("model", path))
            self._given = {"threshold": threshold, "unsure": unsure, "precision": precision}
            settings = resolve(_LoadSettings, known_settings(_LoadSettings, self._given, "setting"))
            self._bundle = read_bundle(self.path)
            # On the CPU: starting a GPU takes longer than scoring a few texts.
            engine = pick_engine("auto", False, self._bundle.model.network, settings.precision)
            self._scorer = Scorer(self._bundle, engine, threads, *settings.decision, settings.precision)
            self.note = self._bundle.note()
        self.threshold = self._scorer.threshold
        self.metrics: Mapping[str, Any] = self._bundle.metrics

    def __repr__(self) -> str:
        """Returns the expression that loads the model."""
        given = "".join(f", {name}={value!r}" for name, value in self._settled().items())
        return f"lstm_ray.load({self.path!r}{given})"

    def _settled(self) -> dict[str, Any]:
        """Returns the settings that were given."""
        fields = _LoadSettings.model_fields
        return {name: value for name, value in self._given.items() if value != fields[name].default}

    def __fspath__(self) -> str:
        """Returns the path of the bundle, so that `evaluate` and `score` accept a model as a path.

        Raises:
            ConfigError: The model was loaded with settings, which the path does not include.
        """
        if settled := self._settled():
            names = " and ".join(f"{name}=" for name in settled)
            raise ConfigError(f"{self!r}: pass its path, and {names} to the call")
        return self.path

    def __reduce__(self) -> tuple[Any, ...]:
        """Returns the function and arguments with which another process loads the same model."""
        return _load_again, (self.path, self._bundle.hash, *self._given.values())

    @overload
    def predict(self, texts: Text) -> Prediction: ...  # type: ignore[overload-overlap]  # a str is iterable
    @overload
    def predict(self, texts: Iterable[Text]) -> list[Prediction]: ...
    def predict(self, texts: Text | Iterable[Text]) -> Prediction | list[Prediction]:
        """Returns the score of each text: one Prediction for one text, a list for several texts.

        Raises:
            InputError: A text is neither str, bytes nor None.
        """
        is_one = _is_one(texts)
        scored = self._score([texts] if is_one else texts)
        columns = (scored.sentiment.to_pylist(), scored.probability.to_pylist(), scored.error.to_pylist())
        predictions = [Prediction(*values) for values in zip(*columns, strict=True)]
        return predictions[0] if is_one else predictions

    @overload
    def explain(self, texts: Text) -> Explanation: ...  # type: ignore[overload-overlap]  # a str is iterable
    @overload
    def explain(self, texts: Iterable[Text]) -> list[Explanation]: ...
    def explain(self, texts: Text | Iterable[Text]) -> Explanation | list[Explanation]:
        """Returns how much each word contributes to the score of each text.

        This is slow: a text is scored again without each of its distinct words.

        Raises:
            InputError: A text is neither str, bytes nor None.
        """
        is_one = _is_one(texts)
        with python_call(_ARGUMENTS, is_short=True):
            column = _column([texts] if is_one else texts)
            words = self._scorer.explain(column)
        explained = [Explanation(*one) for one in zip(self.predict(column), words, strict=True)]
        return explained[0] if is_one else explained

    def predict_proba(self, texts: Text | Iterable[Text]) -> npt.NDArray[np.float32]:
        """Returns float32[texts, 2], the probabilities of `labels`; NaN where a text cannot be scored.

        Raises:
            InputError: A text is neither str, bytes nor None.
        """
        positive = self._score([texts] if _is_one(texts) else texts).probability
        probabilities: npt.NDArray[np.float32] = positive.to_numpy(zero_copy_only=False)  # NaN for null
        return np.stack([1 - probabilities, probabilities], axis=1)

    def score_table(self, table: pa.Table, text_column: str = "text", prefix: str = "") -> pa.Table:
        """Returns an Arrow table with the three columns of `score` added.

        Args:
            table: The table.
            text_column: The column with the texts.
            prefix: Prefix of the new columns' names.

        Raises:
            InputError: The column does not exist, or is not text.
            ConfigError: A column with a new column's name exists.
        """
        with python_call(_ARGUMENTS, is_short=True):
            _check_batch(table)
            if not isinstance(table, pa.Table):
                given = "batch" if isinstance(table, dict) else "dataframe"
                call = f"model({given}, text_column={text_column!r}" + (f", prefix={prefix!r})" if prefix else ")")
                raise InputError(f"expected an Arrow table, not {type(table).__name__}: use {call}")
            scored = self._scorer.score(_text_column(table, text_column))
            for name, column in _new_columns(scored, table.column_names, prefix).items():
                table = table.append_column(name, column)
            return table

    def __call__(self, batch: Any, text_column: str = "text", prefix: str = "") -> Any:
        """Returns a batch of Ray Data with the three columns of `score` added: `dataset.map_batches(model)`.

        Args:
            batch: A dict of numpy arrays, an Arrow table or a pandas DataFrame; the result is of the same kind.
            text_column: The column with the texts.
            prefix: Prefix of the new columns' names.

        Raises:
            InputError: The column does not exist, or is not text.
            ConfigError: A column with a new column's name exists.
        """
        if isinstance(batch, pa.Table):
            return self.score_table(batch, text_column, prefix)
        with python_call(_ARGUMENTS, is_short=True):
            _check_batch(batch)
            scored = self._scorer.score(_text_column(batch, text_column))
            new = {
                name: column.to_numpy(zero_copy_only=False)
                for name, column in _new_columns(scored, batch, prefix).items()
            }
            return {**batch, **new} if isinstance(batch, dict) else batch.assign(**new)

    def to_keras(self) -> keras.Model:
        """Returns the Keras model, from token ids to probabilities. Imports TensorFlow.

        Raises:
            BundleError: The network needs user code that is missing, or that has changed.
        """
        with python_call(_ARGUMENTS):
            from lstm_ray.runtime.tensorflow import start_tensorflow

            start_tensorflow()
            return self._bundle.keras_model()

    def _score(self, texts: Any) -> Scored:
        with python_call(_ARGUMENTS, is_short=True):
            return self._scorer.score(_column(texts))


@functools.lru_cache(maxsize=4)  # Ray Data's processes unpickle the model for every task
def _load_again(
    path: str,
    model_hash: str,
    threshold: float | None,
    unsure: str | tuple[float, float] | None,
    precision: Precision,
) -> Model:
    """Loads a pickled model, on one thread, because other processes of the machine score too."""
    model = Model(path, threads=1, threshold=threshold, unsure=unsure, precision=precision)
    if model._bundle.hash != model_hash:
        raise BundleError(f"{path}: has changed since the model was loaded: load it again")
    return model


def _column(texts: Any, name: str = "texts=") -> pa.Array | pa.ChunkedArray:
    """Returns texts of any kind as a column; messages call them by the name."""
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        if not is_text_type(texts.type):
            raise InputError(f"the texts are {texts.type}, expected text")
        return texts
    # A loop over these yields column names, not texts.
    if isinstance(texts, Mapping) or hasattr(texts, "columns") or not isinstance(texts, Iterable):
        raise InputError(f"{name} is of type {type(texts).__name__}: give a text, or a column or list of texts")
    return pa.array([_encoded(text, number) for number, text in enumerate(texts)], pa.large_binary())


def _encoded(text: Any, number: int) -> bytes | None:
    """Returns a text as UTF-8; a str with a lone surrogate becomes invalid UTF-8, so that its row gets an error."""
    if isinstance(text, str):
        return text.encode(errors="surrogatepass")
    if isinstance(text, bytes):
        return text
    if _is_missing(text):
        return None
    raise InputError(f"text {number} is of type {type(text).__name__}, expected str, bytes or None")


def _is_one(texts: Any) -> TypeGuard[Text]:
    """Returns whether this is a single text, which may be missing."""
    return isinstance(texts, str | bytes) or _is_missing(texts)


def _is_missing(text: Any) -> bool:
    """Returns whether a value is None, or NumPy's or pandas' missing value."""
    # Ray Data passes a batch that has only nulls as float32.
    is_nan = isinstance(text, float | np.floating) and bool(np.isnan(text))
    return text is None or is_nan or type(text).__name__ == "NAType"


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, dict | pa.Table) and not hasattr(batch, "assign"):
        raise InputError(
            f"expected an Arrow table, a pandas DataFrame or a dict of columns, not {type(batch).__name__}; "
            "texts without a table are for `predict`"
        )


def _text_column(batch: Any, name: str) -> pa.Array | pa.ChunkedArray:
    names = batch.column_names if isinstance(batch, pa.Table) else list(batch)
    if name not in names:
        raise InputError(no_column(name, names, "--text-column"))
    return _column(batch[name], f"column {name!r}")


def _new_columns(scored: Scored, taken: Iterable[str], prefix: str) -> dict[str, pa.Array]:
    """Returns the columns that `score` adds, by name."""
    names = [prefix + name for name in NEW_COLUMNS]
    if there := sorted({*names} & {*taken}):
        raise ConfigError(f"column {there[0]!r} exists already: give the new columns a --prefix, such as 'new_'")
    return dict(zip(names, (scored.probability, scored.sentiment, scored.error), strict=True))
