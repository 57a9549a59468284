"""Errors in a command line have the form of all others, and name what may be meant."""

from __future__ import annotations

import re
import sys

import pytest

from lstm_ray.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "a.parquet", "--output", "x"), "error: unexpected a.parquet; did you mean --train a.parquet?"),
        (("vectors", "raw.parquet"), "error: unexpected raw.parquet; did you mean --text raw.parquet?"),
        (("export", "runs/a b/model"), "error: unexpected runs/a b/model; did you mean --model 'runs/a b/model'?"),
        (("export", "m", "--format", "onnx", "--output", "o"), "error: unexpected m; did you mean --model m?"),
        (
            ("export", "--model", "m", "--format", "onnx", "savedmodel", "--output", "o"),
            "error: unexpected savedmodel",
        ),
        (("train", "--train", "a", "b", "--output", "o"), "error: unexpected b; did you mean --train b?"),
        (
            ("train", "--train", "a", "--positive-labels", "4,0", "4,5", "5,0", "--negative-labels", "1,0"),
            """error: unexpected 4,5 5,0: several are separated by commas: --positive-labels '"4,0","4,5","5,0"'""",
        ),
        (
            ("train", "--epochs", "5", "--positive-labels", "4", "5", "--negative-labels", "1", "2"),
            "error: unexpected 5 2: several are separated by commas: --positive-labels 4,5",
        ),
        (
            ("train", "--positive-labels", "so so,", "fine", "--negative-labels", "bad"),
            "error: unexpected fine: several are separated by commas: --positive-labels 'so so,fine'",
        ),
        (("train", "--epochs", "1", "--fresh", "1"), "error: unexpected 1: --fresh takes no value"),
        (("train", "--mask", "yes", "--train", "a"), "error: unexpected yes: --mask or --no-mask takes no value"),
        (("data", "demo", "corpus"), "error: unexpected corpus"),
        (("train", "my job.yaml"), "error: unexpected my job.yaml; did you mean --config 'my job.yaml'?"),
        (
            ("tune", "--config", "my job.yaml", "--trials", "2"),
            "error: no such option --config: JOB.yaml is an argument: lstm-ray tune 'my job.yaml' --trials 2",
        ),
        (
            ("submit", "--config=job.yaml"),
            "error: no such option --config: JOB.yaml is an argument: lstm-ray submit job.yaml",
        ),
        (
            ("score", "--input", "a.parquet", "--model", "m"),
            "error: no such option --input: INPUT is an argument: lstm-ray score a.parquet --model m",
        ),
        (
            ("data", "convert", "--source", "a.csv"),
            "error: no such option --source: SOURCE is an argument: lstm-ray data convert a.csv",
        ),
        (("doctor", "a", "b"), "error: unexpected a b"),
        (
            ("train", "--overwrite"),
            "error: no such option --overwrite; did you mean --fresh? Delete the run in --output",
        ),
        (("convert", "a.csv"), "error: no such command 'convert'; did you mean lstm-ray data convert?"),
        (("imdb",), "error: no such command 'imdb'; did you mean lstm-ray data imdb?"),
        (("data", "train"), "error: no such command 'train'; did you mean lstm-ray train?"),
        (("status",), "error: no such command 'status'; did you mean lstm-ray cluster status or lstm-ray jobs status?"),
        (("jobs", "lst"), "error: no such command 'lst'; did you mean 'list'?"),
        (("train", "--lr", "1"), "error: no such option --lr; did you mean --learning-rate? Adam's learning rate"),
        (("score", "--fresh"), "error: no such option --fresh; did you mean --overwrite? Replace scores"),
        (
            ("data", "convert", "a", "--fresh"),
            "error: no such option --fresh; did you mean --overwrite? Replace existing",
        ),
        (
            ("cluster", "render", "--cpus-per-worker", "2"),
            "error: no such option --cpus-per-worker; did you mean --cpus-per-node? ",
        ),
        (("train", "--epocs", "3"), "error: no such option: --epocs; did you mean --epochs?"),
        (("train", "--unit", "3"), "error: no such option: --unit; did you mean --units?"),
        (("train", "--epochs"), "error: option '--epochs' requires an argument"),
        (("--foo",), "error: no such option: --foo"),
        (("train", "--gpus-per-node", "1"), "error: no such option --gpus-per-node; did you mean --gpus-per-worker? "),
    ],
)
def test_what_a_command_does_not_take_is_reported_as_all_errors_are(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["lstm-ray", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    lines = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert lines[0].startswith(message)
    assert re.fullmatch("see lstm-ray [a-z ]*--help", lines[1])
    assert len(lines) == 2
