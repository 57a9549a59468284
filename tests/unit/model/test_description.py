"""bundle.json: what is written is read; older versions read what they can compute; nothing else is taken for one."""

from __future__ import annotations

import re
from typing import Any, Literal

import pytest

from lstm_ray.config import ModelSettings, Settings, TextSettings, TrainConfig, meaning_of
from lstm_ray.errors import BundleError
from lstm_ray.model import description as description_module
from lstm_ray.model.description import Description, describe, hash_of, interpret, parse, seal, sha256
from lstm_ray.model.profile import Profile, TrainingData
from lstm_ray.model.weights import Mix

CONFIG = TrainConfig(preset="none", vocabulary_size=50, max_tokens=7, units=4, pooling="max", train=("é",))
CONTENT = {"vocabulary.parquet": b"words", "model.keras": b"network", "weights.npz": b"weights"}
METRICS = {"accuracy": 0.75, "auc": None}


class OlderText(Settings):
    """Text settings as version 0.2 declares them."""

    strip_html: bool
    lowercase: Literal["unicode", "ascii"]
    split_on: Literal["space", "whitespace"]
    unlisted_words: Literal["oov", "drop"]
    vocabulary_size: int
    max_tokens: int
    padding: Literal["pre", "post"]
    truncating: Literal["pre", "post"]


class OlderModel(Settings):
    """Model settings as version 0.2 declares them."""

    embedding_size: int
    layers: int
    units: int
    bidirectional: bool
    pooling: Literal["last", "max", "mean"]
    mask: bool
    embedding_dropout: float
    dropout: float
    recurrent_dropout: float
    network: str | None = None


def described(config: TrainConfig = CONFIG, **changes: Any) -> dict[str, Any]:
    """Returns the content of a bundle.json, without its hash."""
    return {**describe(1, config, CONTENT, threshold=0.4, metrics=METRICS, chosen_on=[7]), **changes}


def read(content: dict[str, Any] | bytes) -> Description:
    """Reads the content of a bundle.json, sealed unless it is bytes."""
    return interpret("a/model", parse("a/model", content if isinstance(content, bytes) else seal(content)))


def refused(content: dict[str, Any] | bytes) -> str:
    """Returns the message that refuses a bundle.json."""
    with pytest.raises(BundleError) as raised:
        read(content)
    message = str(raised.value)
    assert message.startswith("a/model: bundle.json ")
    return message


def test_what_is_written_is_read() -> None:
    profile = TrainingData(Profile(rows=9, words=70, unknown=3), Profile(rows=1))
    found = read(described(profile=profile.to_json(), mix={"lstm": 1, "ngrams": 2, "bias": 3}, code={"mine.py": "0"}))
    assert found.text == TextSettings(vocabulary_size=50, max_tokens=7)
    assert found.model == ModelSettings(units=4, pooling="max")
    assert TrainConfig.model_validate(found.training) == CONFIG
    assert (found.threshold, found.metrics, found.chosen_on) == (0.4, METRICS, [7])
    assert found.sha256 == {name: sha256(content) for name, content in CONTENT.items()}
    assert found.profile is not None
    assert found.profile.to_json() == profile.to_json()
    assert (found.mix, found.code) == (Mix(1.0, 2.0, 3.0), {"mine.py": "0"})


def test_parts_that_older_versions_did_not_write_may_be_missing() -> None:
    content = described()
    del content["chosen_on"]
    found = read(content)
    assert (found.chosen_on, found.code, found.mix, found.profile) == ([], {}, None, None)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"metrics": {}, "chosen_on": [], "profile": None, "mix": None}, True),
        ({"threshold": 0.5}, False),
        ({"text": {**described()["text"], "strip_html": False}}, False),
        ({"model": {**described()["model"], "units": 5}}, False),
        ({"sha256": {**described()["sha256"], "weights.npz": "0"}}, False),
    ],
)
def test_the_hash_is_of_all_that_scores_depend_on(changes: dict[str, Any], same: bool) -> None:
    assert (hash_of(described(**changes)) == hash_of(described())) is same


# Damage


def test_every_changed_bit_is_noticed() -> None:
    content = seal(described())
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 7)
        refused(bytes(changed))


def test_a_newer_format_asks_for_a_newer_version() -> None:
    newer = r"bundle format 3, but this is lstm-ray .* which reads formats 1 and 2: install a newer lstm-ray"
    with pytest.raises(BundleError, match=newer):
        read({"format_version": 3, "something": "else"})
    with pytest.raises(BundleError, match=newer):
        read(described(format_version=3))


@pytest.mark.parametrize("key", ["text", "model", "threshold", "metrics", "training", "sha256", "format_version"])
def test_what_lacks_a_part_names_it(key: str) -> None:
    content = described()
    del content[key]
    assert re.search(rf"is damaged: .*\b{key}\b", refused(content))


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b'"text"', b"{}", b"{", b""])
def test_what_is_none_is_refused(content: bytes) -> None:
    assert "is damaged" in refused(content)


@pytest.mark.parametrize("profile", [[], {"training": {}}, {"training": {"rows": -1}, "validation": {}}])
def test_counts_that_are_none_are_told(profile: Any) -> None:
    assert "is damaged: profile: " in refused(described(profile=profile))


def test_unknown_settings_are_refused() -> None:
    content = described()
    content["text"]["stemming"] = True
    assert "has settings this version does not know: stemming is True" in refused(content)


# Versions


@pytest.mark.parametrize("change", [{"punctuation": "keep"}, {"truncating": "middle"}, {"pooling": "mean_max"}])
def test_older_versions_read_what_they_can_compute_and_refuse_the_rest(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ((name, value),) = change.items()
    new = described(CONFIG.model_copy(update=change))
    found = read(new)
    assert value in (getattr(found.text, name, None), getattr(found.model, name, None))
    monkeypatch.setattr(description_module, "TextSettings", OlderText)
    monkeypatch.setattr(description_module, "ModelSettings", OlderModel)
    assert read(described()).threshold == 0.4
    assert f"has settings this version does not know: {name} is '{value}'" in refused(new)


def test_settings_that_older_bundles_lack_mean_what_older_versions_computed() -> None:
    fields = {**TextSettings.model_fields, **ModelSettings.model_fields}
    older = {**OlderText.model_fields, **OlderModel.model_fields}.keys() - {"network"}  # as version 0.1
    later = {name: fields[name].default for name in fields.keys() - older}
    assert meaning_of(TrainConfig, "later").keys() == later.keys(), "a new setting is declared as later"
    assert later == {
        "punctuation": "drop",
        "network": None,
        "shared_dropout": False,
        "output_dropout": 0.0,
        "ngrams": 0,
        "ngram_buckets": 2**20,
    }
    assert not later.keys() & {**described()["text"], **described()["model"], **described()["training"]}.keys()
