"""Command lines of lstm-ray in a job: valid, and within the cluster's size."""

from __future__ import annotations

import pytest
from definitions import parse

from lstm_ray.cluster.check.document import Finding
from lstm_ray.cluster.check.entrypoint import check_entrypoint, shell_commands
from lstm_ray.runtime.room import Nodes

TRAIN = "lstm-ray train --train a --output b --address auto"
SCORE = "lstm-ray score a --model m --output b --address auto"
NODES = [Nodes(1, 0, 0), Nodes(4, 4, 1)]


def check(entrypoint: str) -> list[Finding]:
    """Returns what is found in an entrypoint, on four nodes of four cores and a GPU each."""
    return list(check_entrypoint(entrypoint, ("spec", "entrypoint"), NODES, parse))


@pytest.mark.parametrize(
    ("lines", "commands"),
    [
        ("a b; c 'd e'", [["a", "b"], ["c", "d e"]]),
        ("a \\\n b &&\nc", [["a", "b"], ["c"]]),
        ("a;\n\n(b | c)", [["a"], ["b"], ["c"]]),
        ("a b > log 2>&1; c 2>> d <f", [["a", "b"], ["c"]]),
        ("a --x 2 > log", [["a", "--x", "2"]]),
        ("a # b; c\nd", [["a"], ["d"]]),
        ("a $(date +%F) `b c` d", [["a", "$COMMAND", "$COMMAND", "d"]]),
        ("", []),
    ],
)
def test_shell_commands(lines: str, commands: list[list[str]]) -> None:
    assert shell_commands(lines) == commands


@pytest.mark.parametrize(
    "entrypoint",
    [
        f"{TRAIN} --workers 16",
        f"{SCORE} --actors=2:16",
        f"lstm-ray --debug {SCORE.removeprefix('lstm-ray')} --actors 1 --cpus-per-actor 2 --gpus-per-actor 0.5",
        f"cd /x && /opt/bin/{TRAIN} --workers 2 --gpus-per-worker 1; ls",
        f"{TRAIN} --workers 2;\n\n({SCORE} --actors 3)",
        f"python -m lstm_ray {TRAIN.removeprefix('lstm-ray')} --workers 2",
        f"{TRAIN} --workers $N",
        f"{TRAIN} --workers 1 --cpus-per-worker $C",
        "lstm-ray train --config job.yaml",
        "lstm-ray tune search.yaml --trials 50",
        "lstm-ray evaluate a --model m",
        "lstm-ray data imdb --output $LSTM_RAY_STORAGE/imdb",
        "lstm-ray --version",
        "lstm-ray train --help",
        f"{TRAIN} --workers 2 > $(date).log 2>&1",
        f"A=1 nohup {SCORE} --actors 1 &",
        "pip install lstm-ray --quiet; cd lstm-ray; echo lstm-ray scor",
        "python train.py --workers 50",
        "lstm-ray-tools scor",
        "",
    ],
)
def test_what_is_right_and_fits(entrypoint: str) -> None:
    assert check(entrypoint) == []


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("lstm-ray scor a", "`lstm-ray scor` is wrong: no command 'scor'; did you mean score?"),
        ("lstm-ray sing", "no command 'sing'; choose one of demo, doctor"),
        (SCORE.replace("--model m", "--actors 1"), "`lstm-ray score` is wrong: --model is missing"),
        (SCORE.replace("--model m", "--actors $N"), "--model is missing"),
        ("lstm-ray tune --trials 3", "--train is missing"),
        ("lstm-ray score --model m --output b", "INPUT is missing"),
        (f"{SCORE} --actor 3", "no such option: --actor"),
        (f"{SCORE} --actors nine", "--actors is 'nine'"),
        (f"{SCORE} --actors 1 --model $M --rows-per-part many", "--rows-per-part is 'many'"),
        (f"{SCORE} --actors", "option '--actors' requires an argument"),
        (f"{TRAIN} extra.parquet --workers 1", "unexpected extra.parquet"),
        ("ls && lstm-ray data imbd", "no command 'imbd'; did you mean imdb?"),
        ("lstm-ray score 'open", "is not a shell command: no closing quotation"),
        (f"{TRAIN} --workers 17", "asks for 17 workers of 1 core, but the groups have room for 16; raise maxReplicas"),
        (f"{TRAIN} --workers 5 --gpus-per-worker 1", "asks for 5 workers of 1 core and 1 GPU, but the groups have"),
        (f"{SCORE} --actors 5 --cpus-per-actor 3", "asks for 5 actors of 3 cores, but the groups have room for 4"),
        (f"{TRAIN} --workers 1 --cpus-per-worker 9", "asks for 1 worker of 9 cores, but the groups have room for 0"),
        ("lstm-ray train --config job.yaml --workers 50", "asks for 50 workers"),
        (f"{TRAIN} --workers 50 --epochs $E", "asks for 50 workers"),
        (f"cd /x && /opt/bin/{TRAIN} --workers 50; ls", "asks for 50 workers"),
        (f"python -m lstm_ray {TRAIN.removeprefix('lstm-ray')} --workers 50", "asks for 50 workers"),
        (f"{TRAIN} --workers 2;\n\n({SCORE} --actors 50)", "asks for 50 actors"),
        (f"lstm-ray --debug {TRAIN.removeprefix('lstm-ray')} \\\n --workers 50", "asks for 50 workers"),
        (f"A=1 nohup {SCORE} --actors 50 &", "asks for 50 actors"),
        (SCORE.replace("auto", "local") + " --actors 2", "lstm-ray score would start its own Ray; add --address auto"),
    ],
)
def test_what_is_wrong_is_a_mistake(entrypoint: str, message: str) -> None:
    (finding,) = check(entrypoint)
    assert (finding.field, finding.kind) == (("spec", "entrypoint"), "mistake")
    assert message.lower() in finding.message.lower()


@pytest.mark.parametrize(
    ("entrypoint", "message"),
    [
        ("lstm-ray train --train a --output b", "without --workers runs only on the head; add it"),
        (f"{TRAIN} --workers 2:50", "may use 50 workers of 1 core, but the groups have room for 16"),
    ],
)
def test_what_may_be_meant_is_a_note(entrypoint: str, message: str) -> None:
    (finding,) = check(entrypoint)
    assert finding.kind == "note"
    assert message in finding.message


def test_each_command_is_checked() -> None:
    assert len(check("lstm-ray scor; lstm-ray trin")) == 2


def test_without_a_cluster_only_the_command_line_is_checked() -> None:
    def found(entrypoint: str) -> list[Finding]:
        return list(check_entrypoint(entrypoint, ("spec",), None, parse))

    assert found(f"{TRAIN} --workers 50") == []
    assert len(found("lstm-ray scor")) == 1
