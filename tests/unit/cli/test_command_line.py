"""Command lines that are parsed but not run. Their mistakes: tests/unit/cluster/check/test_entrypoint.py."""

from __future__ import annotations

import shlex

import pytest
import typer

from lstm_ray.cli.app import app
from lstm_ray.cli.command_line import parse_command_line
from lstm_ray.config import EvaluateConfig, ScoreConfig, Settings, TrainConfig, resolve
from lstm_ray.errors import ConfigError


def parse(words: str) -> Settings | None:
    """Returns the settings of a command line."""
    return parse_command_line(typer.main.get_command(app), shlex.split(words))


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (
            "score a b --model m --output=o --actors 1:4 --address auto --overwrite",
            ScoreConfig(inputs=("a", "b"), model="m", output="o", actors="1:4", address="auto", overwrite=True),
        ),
        (
            "--debug train --train a --train b --output o --no-strip-html --mask --dry-run",
            TrainConfig(train=("a", "b"), output="o", strip_html=False, mask=True),
        ),
        (
            "train --train a --output o --preset lstm",
            resolve(TrainConfig, {"train": ("a",), "output": "o", "preset": "lstm"}),
        ),
        ("evaluate $X/* --model m --json", EvaluateConfig(inputs=("$X/*",), model="m")),
        ("score --config job.yaml --actors 3", ScoreConfig(actors="3", address="auto")),
        (
            "score a --model m --output o --actors 3 --rows-per-part $N --address auto",
            ScoreConfig(inputs=("a",), model="m", output="o", actors="3", address="auto"),
        ),
    ],
)
def test_a_command_line_gives_its_settings(words: str, settings: Settings) -> None:
    assert parse(words) == settings


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--version",
        "score --help",
        "data imdb --output x",
        "doctor --address auto",
        "score a --model m --output o --actors $N --address auto",
        "train --config job.yaml",
        "train --train a --output o --preset mine:small --epochs 0",
    ],
)
def test_settings_that_are_not_known_here_are_none(words: str) -> None:
    assert parse(words) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("scor a", "no command 'scor'; did you mean score\\?"),
        ("convert a", "no command 'convert'; did you mean data convert\\?"),
        ("cluster rendr", "no command 'rendr'; did you mean render\\?"),
        ("score a --model m", "--output is missing"),
        ("train --train a --output o --epochs 0", "--epochs is 0: should be"),
        ("doctor --adress auto", "[Nn]o such option: --adress"),
        ("doctor extra", "unexpected extra"),
    ],
)
def test_what_is_wrong_is_an_error(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(words)
