"""predict: where the texts come from, and the errors for arguments that are not texts."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lstm_ray
from lstm_ray.cli.app import main
from lstm_ray.kernels.emitter import Target
from lstm_ray.model.bundle import read_bundle, write_calibrated

Run = Callable[..., tuple[int, list[str], str]]


@pytest.fixture
def run(tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Gives a function that runs `predict --json`; it returns exit code, the texts that were scored, and the error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(tiny_bundle)
    (tmp_path / "reviews.txt").write_bytes("\ufeffa good film\r\nbad\n".encode())
    pq.write_table(pa.table({"text": ["good", "bad"]}), tmp_path / "reviews.parquet")

    def run_command(*arguments: str) -> tuple[int, list[str], str]:
        monkeypatch.setattr("sys.argv", ["lstm-ray", "predict", "--model", "model", "--json", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), [json.loads(line)["text"] for line in shown.out.splitlines()], shown.err

    return run_command


def test_a_file_and_stdin_hold_a_text_a_line(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run("--file", "reviews.txt") == (0, ["a good film", "bad"], "")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO((tmp_path / "reviews.txt").read_bytes())))
    assert run("-") == (0, ["a good film", "bad"], "")


@pytest.mark.parametrize(
    ("content", "texts", "says"),
    [
        (b"good\rbad\r", ["good", "bad"], ""),
        (b"good\rreally\nbad\r\n", ["good\rreally", "bad"], ""),
        (b"good\n\nbad", ["good", "", "bad"], ""),
        (b"", [], "error: --file odd.txt is empty: one text a line is expected"),
        ("good\n".encode("utf-16"), [], "error: --file odd.txt is UTF-16: write it as UTF-8"),
        (
            "хорошо\n\n1,\n".encode("utf-16-le"),
            [],
            "error: --file odd.txt looks like UTF-16: `iconv -f utf-16-le -t utf-8` makes UTF-8 of it",
        ),
        (lzma.compress(b"good\n"), [], "error: --file odd.txt is compressed by xz: unpack it"),
        (b"<html> in a text\n", ["<html> in a text"], ""),
    ],
)
def test_a_file_s_lines_end_as_on_any_system(
    run: Run, tmp_path: Path, content: bytes, texts: list[str], says: str
) -> None:
    (tmp_path / "odd.txt").write_bytes(content)
    code, scored, error = run("--file", "odd.txt")
    assert (code, scored, error.strip()) == (1 if says else 0, texts, says)


@pytest.mark.usefixtures("run")
def test_json_has_a_texts_score_or_why_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lstm-ray", "predict", "--model", "model", "--json", "good film", "?"])
    with pytest.raises(SystemExit):
        main()
    scored, unusable = map(json.loads, capsys.readouterr().out.splitlines())
    (expected,) = lstm_ray.load("model").predict(["good film"])
    score = {"sentiment": expected.label, "probability": expected.probability, "error": None}
    assert scored == {"text": "good film", **score}
    assert unusable == {"text": "?", "sentiment": None, "probability": None, "error": "no_words"}


def test_lines_in_another_encoding_are_told_with_what_they_may_be(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_bytes(b"good\n" + "скучно и длинно\n".encode("cp1251"))
    code, scored, error = run("--file", "odd.txt")
    assert (code, len(scored)) == (0, 2)
    assert error.startswith("note: 1 text not in UTF-8, such as 'скучно и длинно' in cp1251, ")


@pytest.mark.parametrize(
    ("of_lower", "options", "is_noted"),
    [(-0.01, (), False), (0.01, (), True), (0.01, ("--threshold", "0.6"), False)],
    ids=str,
)
def test_a_threshold_is_noted_if_it_makes_another_sentiment_than_a_half(
    run: Run, tmp_path: Path, tiny_bundle: Path, of_lower: float, options: tuple[str, ...], is_noted: bool
) -> None:
    bundle = read_bundle(str(tiny_bundle))
    lower = min(lstm_ray.load(str(tiny_bundle)).predict_proba(["good", "bad"])[:, 1].tolist())
    assert lower > 0.52  # else the cases below mean something else
    (tmp_path / "model").unlink()
    write_calibrated(str(tmp_path / "model"), bundle, lower + of_lower, {}, 0, 1.0)
    code, _, said = run(*options, "good", "bad")
    assert (code, f"threshold is {lower + of_lower:g}, not 0.5" in said) == (0, is_noted)


def test_a_file_is_no_text_and_the_remedy_scores_its_lines(run: Run) -> None:
    code, _, error = run("reviews.txt")
    assert (code, error.splitlines()[0]) == (
        2,
        "error: reviews.txt is a file: lstm-ray predict --model model --file reviews.txt scores its lines; to score "
        "the name itself, pass it on stdin, with -",
    )
    assert run("--file", "reviews.txt")[1] == ["a good film", "bad"]


def test_a_number_after_explain_is_no_text(run: Run) -> None:
    code, texts, error = run("--explain", "3", "bad app")
    assert (code, texts) == (2, [])
    assert error.startswith("error: --explain takes no number, and 3 would be a text: leave it out")
    assert run("--explain", "bad app", "3")[1] == ["bad app", "3"]
    assert run("--explain", "3")[1] == ["3"]
    assert run("3", "bad app")[1] == ["3", "bad app"]


@pytest.mark.parametrize("name", ["a b.csv", "c.JSONL", "d.csv.gz"])
def test_a_file_of_columns_is_converted_by_the_remedy(
    run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b'{"id": 1}\n' if name == "c.JSONL" else b"id,text\n1,good\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    code, texts, error = run("--file", name)
    assert (code, texts) == (2, [])
    command = shlex.split(error[error.index("lstm-ray data convert") : error.index("` makes Parquet of it")])
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    capsys.readouterr()
    stem, _, _ = name.partition(".")
    made = shlex.quote(f"{stem}.parquet")
    assert f"did you mean {made}? If not, " in run("--file", name)[2]
    assert pq.read_table(tmp_path / f"{stem}.parquet")["id"].to_pylist() == [1]


@pytest.mark.parametrize("arguments", [("reviews.parquet",), ("--file", "reviews.parquet"), ("--file", "mine.csv")])
def test_a_parquet_file_is_for_score(run: Run, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy("reviews.parquet", "mine.csv")
    code, _, error = run(*arguments)
    assert code == 2
    line = error[error.index("lstm-ray score") : error.index(" scores its rows")]
    monkeypatch.setattr("sys.argv", shlex.split(line))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert pq.read_table("SCORED")["text"].to_pylist() == ["good", "bad"]


def shell_words(line: str) -> list[str]:
    """Returns the words that a shell makes of a line."""
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], stdout=subprocess.PIPE, check=True).stdout
    return printed.decode().split("\0")[:-1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("text", ["-5 stars", "-not good", "-5", "- a dash\nin front"])
def test_a_text_that_looks_like_an_option_comes_after_two_dashes(
    run: Run, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = run("good", text)
    assert code == 2
    remedy = error.splitlines()[0].partition("after --: ")[2]
    words = shell_words(remedy)[1:]
    monkeypatch.setattr("sys.argv", ["lstm-ray", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()] == ["good", text]


def test_an_unknown_option_is_no_text(run: Run) -> None:
    assert "--: " not in run("good", "-q")[2]


def test_there_is_one_source_of_texts(run: Run) -> None:
    assert run("good", "--file", "reviews.txt")[2].startswith("error: give either TEXT or --file\n")
    assert run()[2].startswith("error: TEXT is missing: give one, or --file FILE, or - for stdin\n")
    assert "missing.txt: cannot be read" in run("--file", "missing.txt")[2]


def predict(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Runs `predict --explain`."""
    monkeypatch.setattr("sys.argv", ["lstm-ray", "predict", "--model", "model", "--explain", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


@pytest.mark.usefixtures("run")
def test_an_explanation_lists_the_words_that_weigh_most(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(monkeypatch, "A good\tfilm", "?")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(" A good\\tfilm")
    weights = [line.split() for line in lines[1:4]]
    assert sorted(word for _, word in weights) == ["A", "film", "good"]
    assert [abs(float(weight)) for weight, _ in weights] == sorted(
        (abs(float(weight)) for weight, _ in weights), reverse=True
    )
    assert lines[4:] == ["  -     (no_words) ?"]
    predict(monkeypatch, "--json", "A good film")
    (shown,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert {word["word"]: word["spans"] for word in shown["words"]} == {
        "A": [[0, 1]],
        "good": [[2, 6]],
        "film": [[7, 11]],
    }


def test_a_precision_that_the_processor_lacks_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "host", classmethod(lambda cls: Target.of("haswell", {"avx2": True, "fma": True})))
    assert run("--precision", "float32", "good")[:2] == (0, ["good"])
    code, texts, error = run("--precision", "bf16", "good")
    assert (code, texts) == (2, [])
    assert "--precision bf16 needs a processor with AVX512-BF16" in error
