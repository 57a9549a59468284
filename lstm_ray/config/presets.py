"""Presets: training settings to start from, built in or from the user's code."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from lstm_ray import user_code
from lstm_ray.config.base import Settings
from lstm_ray.config.job_file import known_settings, to_yaml
from lstm_ray.errors import ConfigError

PRESETS: dict[str, dict[str, Any]] = {
    # What we recommend. Settings declared as `from_data` are chosen in train/best.py.
    "best": {
        "mask": True,
        "bidirectional": True,
        "punctuation": "keep",
        "padding": "post",  # equivalent for a masked network, and on a GPU cuDNN can run it
        "pooling": "mean_max",
        "schedule": "cosine",
        "ema": 0.999,
        "best_by": "loss",
        "ngram_refit": True,
    },
    # The two textbook models, on the last 80 words of a review, split exactly as Keras does: "<br />" leaves the word
    # "br", as in keras.datasets.imdb.
    "lstm": {
        "strip_html": False,
        "split_on": "space",
        "vocabulary_size": 20_000,
        "max_tokens": 80,
        "padding": "pre",
        "truncating": "pre",
        "embedding_size": 128,
        "units": 128,
        "dropout": 0.2,
        "recurrent_dropout": 0.2,
        "global_batch_size": 32,
        "epochs": 15,
        "best_by": "accuracy",
        "learning_rate": 0.001,
    },
    "bilstm": {
        "strip_html": False,
        "split_on": "space",
        "vocabulary_size": 5_000,
        "max_tokens": 80,
        "padding": "pre",
        "truncating": "pre",
        "embedding_size": 32,
        "units": 128,
        "bidirectional": True,
        "dropout": 0.0,
        "recurrent_dropout": 0.0,
        "global_batch_size": 32,
        "epochs": 15,
        "best_by": "accuracy",
        "learning_rate": 0.001,
    },
    # Every setting's own default.
    "none": {},
}


def preset_of(kind: type[Settings], given: Mapping[str, Any]) -> Any:
    """Returns the preset to start from, unchecked; None if the settings have none.

    If none is named it is `best`; with a network that user code builds, or a model to start from, it is `none`.
    """
    if "preset" not in kind.model_fields:
        return None
    is_settled = given.get("network") or given.get("from_")
    return given.get("preset", "none" if is_settled else kind.model_fields["preset"].default)


def with_preset(kind: type[Settings], given: Mapping[str, Any], code: str | None = None) -> dict[str, Any]:
    """Returns the settings that were given and, where none was, those of the preset that they start from.

    If every setting is given, as in a run's config.yaml, the preset is not looked up: the run resumes with the settings
    that it started with, even if the module with the preset is gone.

    Args:
        kind: The configuration class.
        given: Settings that were given.
        code: Directory of the user's modules; None is the current directory.

    Raises:
        ConfigError: There is no such module or mapping, or it has an unknown setting.
    """
    if "preset" not in kind.model_fields:
        return dict(given)
    preset = preset_of(kind, given)
    settings = {**given, "preset": preset}
    if not isinstance(preset, str) or given.keys() >= kind.model_fields.keys():
        return settings
    if not user_code.is_named(preset):
        return {**PRESETS.get(preset, {}), **settings}  # an unknown name is refused by the setting's own validator
    found = user_code.find(preset, lambda value: isinstance(value, Mapping), "mapping", code)
    if "preset" in found:
        raise ConfigError("has the key 'preset': a preset cannot start from another")
    return {**known_settings(kind, found), **settings}


def apart_from_presets(
    kind: type[Settings],
    changed: Sequence[str],
    earlier: Mapping[str, Any],
    now: Mapping[str, Any],
    chosen: Collection[str] = (),
) -> list[str]:
    """Returns settings in which two runs differ; with different presets, without those that follow from the presets.

    Args:
        kind: The configuration class.
        changed: All settings in which they differ.
        earlier: The settings of one run, as `read_yaml` returns them.
        now: Those of the other.
        chosen: Those of the other that were chosen for the data.
    """
    presets = [settings.get("preset") for settings in (earlier, now)]
    if "preset" not in changed or not all(preset in PRESETS for preset in presets):
        return list(changed)
    of_presets = [yaml.safe_load(to_yaml(kind.model_validate({"preset": preset}))) for preset in presets]

    def follows(name: str) -> bool:
        """Returns whether neither run was given this setting. What `best` chooses for the data is not in its YAML."""
        there, here = of_presets
        is_chosen = name in chosen or (name in here and here[name] == now[name])
        return is_chosen and (name not in there or there[name] == earlier[name])

    return ["preset", *(name for name in changed if name != "preset" and not follows(name))]
