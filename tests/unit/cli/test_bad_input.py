"""Bad input: one line that says what is wrong and where, an exit code, no traceback, nothing left behind."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm_ray.cli.app import main

TEXTS = ["a good film", "a bad film", "fine", "bad acting", "good end", "not good"]
LABELS = [1, 0, 1, 0, 1, 0]
TABLES: dict[str, dict[str, object]] = {
    "good": {"text": TEXTS, "label": LABELS},
    "no_text": {"review": TEXTS, "label": LABELS},
    "no_label": {"text": TEXTS, "stars": LABELS},
    "numbers": {"text": [1, 2, 3], "label": [0, 1, 0]},
    "label_2": {"text": TEXTS, "label": [1, 0, 1, 2, 1, 0]},
    "label_half": {"text": TEXTS, "label": [1, 0, 0.5, 0, 1, 0]},
    "label_null": {"text": TEXTS, "label": [1, None, 1, 0, 1, 0]},
    "label_words": {"text": TEXTS, "label": ["pos", "neg", "pos", "neg", "pos", "neg"]},
    "label_mood": {"text": TEXTS, "label": ["happy", "sad", "happy", "sad", "happy", "sad"]},
    "label_minus": {"text": TEXTS, "label": [1, -1, 1, 0, 1, 0]},
    "one_class": {"text": TEXTS, "label": [1, 1, 1, 1, 1, 1]},
    "no_words": {"text": [None, "?"], "label": [0, 1]},
    "no_rows": {"text": pa.array([], pa.string()), "label": pa.array([], pa.int8())},
    "scored": {"text": TEXTS, "sentiment": TEXTS},
}


@dataclass(frozen=True)
class Result:
    """How a command ended.

    Attributes:
        code: Exit code.
        error: The lines on stderr from the one that says what is wrong.
        before: The lines on stderr before it.
        out: All of stdout.
    """

    code: int
    error: list[str]
    before: list[str]
    out: str


Run = Callable[..., Result]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Gives a directory of inputs, good and bad, which is the current one."""
    for name, columns in TABLES.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    (tmp_path / "words.parquet").write_text("text,label\ngood,1\n" * 20, encoding="utf-8")
    whole = (tmp_path / "good.parquet").read_bytes()
    (tmp_path / "half.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "nothing.parquet").write_bytes(b"")
    (tmp_path / "no_parquet").mkdir()
    (tmp_path / "no_parquet" / "notes.txt").write_text("nothing here", encoding="utf-8")
    shutil.copytree(tiny_bundle, tmp_path / "model")
    (tmp_path / "job.yaml").write_text("epochs: 3\nlearning_rte: 0.1\n", encoding="utf-8")
    (tmp_path / "gpu.yaml").write_text("engine: native\nworkers: 1\ngpus_per_worker: 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # with a GPU, evaluate would want TensorFlow
    return tmp_path


@pytest.fixture
def run(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Gives a function that runs `lstm-ray` and checks what holds for every failure."""

    def run_command(*arguments: str) -> Result:
        for heavy in ("tensorflow", "keras", "ray"):  # an import of one of these would be an unexpected error
            monkeypatch.setitem(sys.modules, heavy, None)
        monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments])
        before = contents(place)
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit:
            main()
        captured = capfd.readouterr()
        assert contents(place) == before, "files were left behind or changed"
        assert "Traceback" not in captured.err
        assert "unexpected" not in captured.err
        lines = captured.err.splitlines()
        start = next((place for place, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return Result(int(exit.value.code or 0), lines[start:], lines[:start], captured.out)

    return run_command


def contents(directory: Path) -> dict[str, bytes | None]:
    """Returns everything below a directory: the bytes of files, None for directories."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(directory.rglob("*"))}


def assert_one_line(result: Result, code: int, *parts: str) -> None:
    """Checks that a single line, and a hint at most, says all of `parts`."""
    assert result.code == code
    assert result.out == ""
    assert len(result.error) == (2 if code == 2 else 1), result.error
    for part in parts:
        assert part in result.error[0]
    if code == 2:
        assert "--help" in result.error[1]
    for line in result.before:
        assert line.startswith(("planning", "reading", "6 rows")), line


TRAIN = ("--output", "out", "--validation-fraction", "0.3")
SCORE = ("--output", "out", "--model", "model")
EVALUATE = ("--output", "out", "--model", "model")

# What every command says of an input that cannot be read: file -> words of the message.
UNREADABLE = {
    "missing.parquet": ("missing.parquet", "no such file or directory"),
    "miss*.parquet": ("miss*.parquet", "no file matches"),
    "words.parquet": ("words.parquet", "not a Parquet file"),
    "half.parquet": ("half.parquet", "not a Parquet file"),
    "nothing.parquet": ("nothing.parquet", "not a Parquet file: it is empty: was it written completely?"),
    "no_text.parquet": ("no_text.parquet", "no column 'text'", "'review'", "--text-column"),
    "numbers.parquet": ("numbers.parquet", "column 'text' is int64", "--text-column"),
    "no_parquet": ("no_parquet", "no *.parquet file"),
}
# The same for labels.
UNUSABLE = {
    "no_label.parquet": ("no_label.parquet", "no column 'label'", "'stars'", "--label-column"),
    "label_2.parquet": ("label_2.parquet", "column 'label', row 3", "label 2 is neither 0 nor 1"),
    "label_half.parquet": ("label_half.parquet", "column 'label', row 2", "label 0.5 is neither 0 nor 1"),
    "label_null.parquet": (
        "label_null.parquet",
        "column 'label', row 1",
        "label is null",
        "--positive-labels 1 --negative-labels 0",
    ),
    "label_words.parquet": ("label_words.parquet", "the texts 'neg', 'pos'", "--positive-labels pos"),
    "label_mood.parquet": ("label_mood.parquet", "the texts 'happy', 'sad'", "--positive-labels LABELS"),
    "label_minus.parquet": ("label_minus.parquet", "row 1: label -1", "-1 for unknown", "--negative-labels 0"),
    "no_rows.parquet": ("no_rows.parquet", "no rows"),
}


@pytest.mark.parametrize("file", [*UNREADABLE, *UNUSABLE])
def test_train_refuses_an_input(run: Run, file: str) -> None:
    assert_one_line(run("train", "--train", file, *TRAIN), 1, *{**UNREADABLE, **UNUSABLE}[file])


@pytest.mark.parametrize("file", UNUSABLE)
def test_a_dry_run_refuses_labels_as_the_run_would(run: Run, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from lstm_ray.train import dry_run

    monkeypatch.setattr(dry_run, "choose", lambda config, shards: (config, []))
    parts = (
        UNUSABLE[file]
        if file != "no_rows.parquet"
        else ("no_rows.parquet", "0 positive, 0 negative: training needs both")
    )
    assert_one_line(run("train", "--dry-run", "--train", file, *TRAIN), 1, *parts)


@pytest.mark.parametrize("file", UNREADABLE)
def test_score_refuses_an_input(run: Run, file: str) -> None:
    assert_one_line(run("score", file, *SCORE), 1, *UNREADABLE[file])


@pytest.mark.parametrize("file", [*UNREADABLE, *UNUSABLE])
def test_evaluate_refuses_an_input(run: Run, file: str) -> None:
    assert_one_line(run("evaluate", file, *EVALUATE), 1, *{**UNREADABLE, **UNUSABLE}[file])


def test_train_wants_both_classes(run: Run) -> None:
    result = run("train", "--train", "one_class.parquet", "--output", "out", "--validation-fraction", "0")
    assert_one_line(result, 1, "one_class.parquet", "column 'label'", "all 6 training rows have the label 1")


def test_a_mapping_that_leaves_nothing_says_so(run: Run) -> None:
    mapping = ("--positive-labels", "5", "--negative-labels", "4")
    result = run("train", "--train", "good.parquet", *TRAIN, *mapping)
    assert_one_line(result, 1, "good.parquet", "no rows to train on; 6 rows with other labels left out")
    result = run("evaluate", "good.parquet", *EVALUATE, *mapping)
    left_out = "no rows to evaluate; 6 rows with other labels left out (there are 0, 1)"
    assert_one_line(result, 1, "good.parquet", left_out)
    assert_one_line(run("evaluate", "no_words.parquet", *EVALUATE), 1, "no rows to evaluate; 2 rows without words")


@pytest.mark.parametrize("command", [("train", *TRAIN, "--train"), ("train", "--dry-run", *TRAIN, "--train")])
def test_labels_in_another_case_are_proposed(run: Run, place: Path, command: tuple[str, ...]) -> None:
    pq.write_table(pa.table({"text": TEXTS, "label": ["Positive", "Negative"] * 3}), place / "cases.parquet")
    mapping = ("--positive-labels", "positive", "--negative-labels", "negative")
    proposal = "did you mean --positive-labels Positive --negative-labels Negative?"
    assert_one_line(run(*command, "cases.parquet", *mapping), 1, "there are 'Negative', 'Positive'", proposal)
    if "--dry-run" not in command:
        assert_one_line(run("evaluate", "cases.parquet", *EVALUATE, *mapping), 1, "no rows to evaluate", proposal)


def test_train_wants_rows_to_validate_on(run: Run) -> None:
    arguments = ("--train", "good.parquet", "--output", "out")
    assert_one_line(run("train", *arguments, "--validation", "no_rows.parquet"), 1, "no_rows.parquet", "no rows")
    held_out = run("train", *arguments, "--validation-fraction", "0.0001")
    assert_one_line(held_out, 1, "good.parquet", "none of its 6 rows", "--validation-fraction")


@pytest.mark.parametrize("missing", ["words.json", "words.parquet", "missing.parquet"])
def test_train_refuses_a_vocabulary_that_is_none(run: Run, missing: str) -> None:
    result = run("train", "--train", "good.parquet", *TRAIN, "--vocabulary", missing)
    assert_one_line(result, 1, missing, "not a")


@pytest.mark.parametrize(
    "command", [("train", "--train", "good.parquet"), ("score", "good.parquet"), ("evaluate", "good.parquet")]
)
def test_an_output_that_holds_something_is_left_alone(run: Run, command: tuple[str, ...]) -> None:
    model = () if command[0] == "train" else ("--model", "model")
    assert_one_line(run(*command, *model, "--output", "no_parquet"), 1, "no_parquet", "not empty", "--output")
    is_file = "job.yaml: is a file, not a directory: choose another --output"
    assert_one_line(run(*command, *model, "--output", "job.yaml"), 1, is_file)
    inside = "job.yaml is not a directory: choose another --output"
    assert_one_line(run(*command, *model, "--output", "job.yaml/out"), 1, inside)


LONG = "n" * 300


@pytest.mark.parametrize(
    "command",
    [
        ("data", "convert", "words.csv", "--output", f"{LONG}.parquet"),
        ("data", "split", "good.parquet", "--output", LONG),
        ("data", "demo", "--output", LONG),
        ("demo", "--output", LONG),
        ("train", "--train", "good.parquet", "--preset", "none", "--output", LONG),
        ("score", "good.parquet", "--model", "model", "--output", LONG),
        ("evaluate", "good.parquet", "--model", "model", "--predictions", LONG),
        ("calibrate", "good.parquet", "--model", "model", "--output", LONG),
        ("cluster", "render", "--provider", "kuberay", "--output", LONG),
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_name_that_is_too_long_is_refused(run: Run, place: Path, command: tuple[str, ...]) -> None:
    (place / "words.csv").write_text("text\ngood\n", encoding="utf-8")
    assert_one_line(run(*command), 1, LONG, "file name too long")


@pytest.mark.parametrize("option", [("--fresh",), ()])
def test_train_never_deletes_what_is_no_run(run: Run, option: tuple[str, ...]) -> None:
    result = run("train", "--train", "good.parquet", "--output", "no_parquet", *option)
    assert_one_line(result, 1, "no_parquet", "not an earlier run")


def test_score_never_deletes_what_is_no_result(run: Run) -> None:
    result = run("score", "good.parquet", "--model", "model", "--output", "no_parquet", "--overwrite")
    assert_one_line(result, 1, "no_parquet", "not written by lstm-ray score")


USES_OF_A_BUNDLE = {
    "score": ("score", "good.parquet", "--output", "out"),
    "evaluate": ("evaluate", "good.parquet", "--output", "out"),
    "predict": ("predict", "a good film"),
}


@pytest.mark.parametrize("command", USES_OF_A_BUNDLE)
@pytest.mark.parametrize("file", ["bundle.json", "vocabulary.parquet", "model.keras", "weights.npz"])
def test_a_bundle_with_a_changed_byte_is_refused(run: Run, place: Path, command: str, file: str) -> None:
    path = place / "model" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert_one_line(run(*USES_OF_A_BUNDLE[command], "--model", "model"), 1, "model", file, "damaged")


@pytest.mark.parametrize("file", ["vocabulary.parquet", "model.keras", "weights.npz"])
def test_a_bundle_that_lacks_a_file_is_refused(run: Run, place: Path, file: str) -> None:
    (place / "model" / file).unlink()
    assert_one_line(run("predict", "a good film", "--model", "model"), 1, "model", file, "no such file")


@pytest.mark.parametrize("command", USES_OF_A_BUNDLE)
@pytest.mark.parametrize(
    ("model", "message"), [("no_parquet", "not a model bundle"), ("missing", "no such model bundle")]
)
def test_a_directory_that_is_no_bundle_is_refused(run: Run, command: str, model: str, message: str) -> None:
    assert_one_line(run(*USES_OF_A_BUNDLE[command], "--model", model), 1, model, message)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("train", "--max-tokens", "0"), ("--max-tokens is 0",)),
        (("train", "--seed", str(2**32)), ("--seed is 4294967296",)),
        (("train", "--train", "good.parquet"), ("--output is missing",)),
        (("train", "--output", "out"), ("--train is missing",)),
        (("train", "--train", "", "--output", "out"), ("--train is missing",)),
        (("train", "--config", "job.yaml"), ("job.yaml", "unknown key 'learning_rte'", "'learning_rate'")),
        (("train", "--train", "good.parquet", *TRAIN, "--unlisted-words", "drop"), ("drop needs",)),
        (
            ("train", "--engine", "native", "--precision", "bf16"),
            ("--engine native computes in float32: --precision bf16 needs --engine keras",),
        ),
        (
            ("train", "--engine", "native", "--workers", "1", "--gpus-per-worker", "1"),
            ("--engine native is for CPUs: --gpus-per-worker needs --engine keras",),
        ),
        (("train", "--preset", "none", "--batch-by", "tokens"), ("--batch-by tokens needs --mask: ",)),
        (("train", "--config", "gpu.yaml"), ("gpu.yaml: ", "engine native", "gpus_per_worker needs engine keras")),
        (("train", "--positive-labels", "4,5"), ("--negative-labels is missing beside --positive-labels",)),
        (
            ("evaluate", "--positive-labels", "4, 5.0", "--negative-labels", "1,5"),
            ("label '5' is in --positive-labels",),
        ),
        (("train", "--positive-labels", "1", "--negative-labels", "True"), ("label 'True' is in", "(there as '1')")),
        (("score", "--output", "out", "--model", "model"), ("INPUT is missing",)),
        (("score", "good.parquet", "--output", "out"), ("--model is missing",)),
        (("score", "good.parquet", "--model", "model"), ("--output is missing",)),
        (("score", "scored.parquet", *SCORE), ("column 'sentiment'", "--prefix")),
        (
            ("score", "good.parquet", *SCORE, "--keep-columns", "text,stars"),
            ("the input has no column 'stars'; it has ", "'label'", "choose with --keep-columns"),
        ),
        (("evaluate", "good.parquet"), ("--model is missing",)),
        (("config", "show", "predict"), ("'predict'", "train, score, evaluate")),
        (("config", "show", "score", "--preset", "best"), ("--preset is for train and tune: score has no presets",)),
    ],
)
def test_a_setting_that_cannot_be_is_named(run: Run, arguments: tuple[str, ...], parts: tuple[str, ...]) -> None:
    assert_one_line(run(*arguments), 2, *parts)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("score", "--rows-per-part", "0"), "score"),
        (("--debug", "config", "show", "predict"), "config show"),
        (("cluster", "render", "--provider", "aws", "--hosts", "a"), "cluster render"),
    ],
)
def test_the_hint_names_the_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], hint: str
) -> None:
    monkeypatch.setenv("LSTM_RAY_DEBUG", "")
    monkeypatch.setattr("sys.argv", ["lstm-ray", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert capfd.readouterr().err.splitlines()[-1] == f"see lstm-ray {hint} --help"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--lerning-rate", "1"), "--lerning-rate"),
        (("score", "--workers", "1"), "--workers"),
        (("export", "--format", "onnx"), "--model"),
        (("data", "demo"), "--output"),
        (("frobnicate",), "frobnicate"),
    ],
)
def test_wrong_usage_names_the_option(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """These are found by Typer; their form is that of all errors."""
    assert_one_line(run(*arguments), 2, message)


@pytest.mark.parametrize("command", ["score", "evaluate"])
def test_a_job_file_that_is_given_as_an_input_is_recognised(run: Run, command: str) -> None:
    for arguments in ((), ("--model", "model", "--output", "out")):
        result = run(command, "job.yaml", *arguments)
        assert_one_line(result, 2, "INPUT job.yaml is YAML; did you mean --config job.yaml?")


def test_data_in_place_of_a_job_file_is_recognised(run: Run) -> None:
    assert_one_line(
        run("tune", "good.parquet"), 2, "JOB.yaml good.parquet is Parquet; did you mean --train good.parquet?"
    )


def test_demo_leaves_a_directory_of_somebody_else_alone(run: Run) -> None:
    assert_one_line(run("demo", "--output", "no_parquet"), 1, "no_parquet", "not from an earlier demo")


def test_data_demo_does_not_overwrite(run: Run, place: Path) -> None:
    shutil.copy(place / "good.parquet", place / "train.parquet")
    assert_one_line(run("data", "demo", "--output", "."), 1, "train.parquet", "--overwrite")


def test_debug_shows_where_an_error_came_from(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LSTM_RAY_DEBUG", "")
    monkeypatch.setattr("sys.argv", ["lstm-ray", "--debug", "train", "--train", "missing.parquet", "--output", "out"])
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 1
    assert "Traceback" in capfd.readouterr().err


def test_predict_wants_a_text_or_a_file(run: Run) -> None:
    assert_one_line(run("predict", "--model", "model"), 2, "TEXT is missing", "--file FILE")
    assert_one_line(run("predict", "fine", "--file", "a.txt", "--model", "model"), 2, "either TEXT or --file")


def test_predict_does_not_read_what_has_no_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lstm_ray.cli.predict._MOST_BYTES", 1 << 20)
    with open("/dev/zero", encoding="utf-8") as zeros:
        monkeypatch.setattr("sys.stdin", zeros)
        assert_one_line(
            run("predict", "-", "--model", "model"), 1, "stdin has more than 1 MiB", "lstm-ray data convert"
        )


def test_a_text_that_acts_on_a_terminal_is_shown(place: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    monkeypatch.setattr("sys.argv", ["lstm-ray", "predict", "--model", "model", "good \x1b]0;x\x07\nfilm", "\u202e"])
    with pytest.raises(SystemExit):
        main()
    lines = capfd.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["good \\u001b]0;x\\u0007\\nfilm", "\\u202e"]
