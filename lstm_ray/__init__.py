"""Train Keras 3 LSTM sentiment models on Ray Train, score corpora of reviews on Ray Data.

Each function is a command of `lstm-ray`; docs/how-to/python.md has examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.3.0.dev0"

from lstm_ray import errors as errors
from lstm_ray.api.functions import calibrate as calibrate
from lstm_ray.api.functions import convert as convert
from lstm_ray.api.functions import evaluate as evaluate
from lstm_ray.api.functions import export as export
from lstm_ray.api.functions import load as load
from lstm_ray.api.functions import score as score
from lstm_ray.api.functions import split as split
from lstm_ray.api.functions import train as train
from lstm_ray.api.functions import tune as tune
from lstm_ray.api.functions import vectors as vectors

if TYPE_CHECKING:
    from lstm_ray.api.model import Explanation as Explanation
    from lstm_ray.api.model import Model as Model
    from lstm_ray.api.model import Prediction as Prediction
    from lstm_ray.config import CalibrateConfig as CalibrateConfig
    from lstm_ray.config import ConvertConfig as ConvertConfig
    from lstm_ray.config import EvaluateConfig as EvaluateConfig
    from lstm_ray.config import ScoreConfig as ScoreConfig
    from lstm_ray.config import SplitConfig as SplitConfig
    from lstm_ray.config import TrainConfig as TrainConfig
    from lstm_ray.config import TuneConfig as TuneConfig
    from lstm_ray.config import VectorsConfig as VectorsConfig

_LATER = {
    **dict.fromkeys(("Explanation", "Model", "Prediction"), "lstm_ray.api.model"),
    **dict.fromkeys(
        (
            *("CalibrateConfig", "ConvertConfig", "EvaluateConfig", "ScoreConfig", "SplitConfig"),
            *("TrainConfig", "TuneConfig", "VectorsConfig"),
        ),
        "lstm_ray.config",
    ),
}
"""Modules that define the classes of this package; they are imported on first use."""


_INSTEAD = {
    "predict": "lstm_ray.load(MODEL).predict(TEXTS)",
    "predict_proba": "lstm_ray.load(MODEL).predict_proba(TEXTS)",
    "explain": "lstm_ray.load(MODEL).explain(TEXTS)",
    "score_table": "lstm_ray.load(MODEL).score_table(TABLE)",
    "to_keras": "lstm_ray.load(MODEL).to_keras()",
    "imdb": "the command lstm-ray data imdb",
    "demo": "the command lstm-ray demo",
    "doctor": "the command lstm-ray doctor",
    "submit": "the command lstm-ray submit",
    "jobs": "the command lstm-ray jobs",
    "cluster": "the command lstm-ray cluster",
}
"""What to use instead of names that this package does not have: methods of a model, and commands."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        hint = f": use {_INSTEAD[name]}" if name in _INSTEAD else ""
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
    import importlib

    return getattr(importlib.import_module(_LATER[name]), name)
