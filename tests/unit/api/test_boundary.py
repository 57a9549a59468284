"""A call from Python: its messages name keywords, and the environment is restored."""

from __future__ import annotations

import os
import shlex
from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm_ray.api.boundary import keywords_named, options_named, python_call
from lstm_ray.config import EvaluateConfig, ScoreConfig, TrainConfig, argument_types, split_list
from lstm_ray.errors import OutputError
from lstm_ray.progress import Count, Event

ARGUMENTS = {
    name: annotation
    for kind in (TrainConfig, ScoreConfig, EvaluateConfig)
    for name, annotation in argument_types(kind).items()
}
LABELS = st.lists(st.from_regex(r"[\w'a-z .&%+-]*\w", fullmatch=True), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("choose another --output", "choose another output="),
        ("choose another --output, or --fresh to start over", "choose another output=, or fresh=True to start over"),
        ("INPUT is missing", "inputs= is missing"),
        ("--threshold and --maximize exclude each other", "threshold= and maximize= exclude each other"),
        ("leave --preset out", "leave preset= out"),
        ("--epochs is 'x': should be", "epochs= is 'x': should be"),
        ("--fresh is 'x': should be", "fresh= is 'x': should be"),
        ("but --embedding-size is 4: give --embedding-size 64", "but embedding_size= is 4: give embedding_size=64"),
        ("with --padding post and no --mask", "with padding='post' and no mask=True"),
        ("--no-strip-html keeps them", "strip_html=False keeps them"),
        ("--workers 0 or 1 and --accumulate 1, or", "workers=0 or 1 and accumulate=1, or"),
        ("try a lower --learning-rate, or --clip-norm 1", "try a lower learning_rate=, or clip_norm=1"),
        ("--unsure 0.7:0.9 has no room: choose", "unsure='0.7:0.9' has no room: choose"),
        ("--keep-columns: no column 'x'", "keep_columns=: no column 'x'"),
        ("did you mean --text-column text?", "did you mean text_column='text'?"),
        ("did you mean --text-column text? The model", "did you mean text_column='text'? The model"),
        ("did you mean --text-column 'the text'?", "did you mean text_column='the text'?"),
        ("--output /a/b is inside the input", "output='/a/b' is inside the input"),
        ("--predictions a/p.parquet is inside the input", "predictions='a/p.parquet' is inside the input"),
        ("new columns a --prefix, e.g. new_", "new columns a prefix=, e.g. new_"),
        (
            "which is which: --positive-labels 4,5 --negative-labels 1,2",
            "which is which: positive_labels=['4', '5'], negative_labels=['1', '2']",
        ),
        (
            """mean --positive-labels '"4,0","5,0"' --negative-labels '"1,0"'?""",
            "mean positive_labels=['4,0', '5,0'], negative_labels=['1,0']?",
        ),
        ("several are written --positive-labels 4,5", "several are written positive_labels=['4', '5']"),
        (
            "did you mean --positive-labels 5 --negative-labels no?",
            "did you mean positive_labels='5', negative_labels='no'?",
        ),
        ("did you mean --train a,b.parquet?", "did you mean train='a,b.parquet'?"),
        ("`lstm-ray train --config a.yaml` resumes it", "`lstm-ray train --config a.yaml` resumes it"),
        ("add `ray start --head --port 6379`", "add `ray start --head --port 6379`"),
        ("docker run --shm-size=8g", "docker run --shm-size=8g"),
        (
            "`lstm-ray data convert a.csv --output a.parquet` makes",
            "`lstm-ray data convert a.csv --output a.parquet` makes",
        ),
        ("/runs/--epochs: is in /a/--mask/INPUT/b", "/runs/--epochs: is in /a/--mask/INPUT/b"),
        ("no column '--epochs' in 'a --mask b'; its --mask", "no column '--epochs' in 'a --mask b'; its mask=True"),
    ],
)
def test_a_message_names_keywords(written: str, named: str) -> None:
    assert keywords_named(written, ARGUMENTS) == named


@given(LABELS, LABELS)
def test_a_remedy_with_labels_works_when_it_is_pasted(positive: list[str], negative: list[str]) -> None:
    given = {"positive_labels": ",".join(positive), "negative_labels": ",".join(negative)}
    options = shlex.join(("--positive-labels", given["positive_labels"], "--negative-labels", given["negative_labels"]))
    pasted = eval(f"dict({keywords_named(options, ARGUMENTS)})")
    assert {name: split_list(value) for name, value in pasted.items()} == {
        name: split_list(value) for name, value in given.items()
    }


def test_errors_and_progress_are_named_for_the_caller() -> None:
    events: list[Event] = []

    def fail() -> None:
        with python_call(ARGUMENTS, events.append) as report:
            report("note: --mask helps")
            raise OutputError("choose another --output")

    with pytest.raises(OutputError, match=r"^choose another output=$"):
        fail()
    with options_named(), pytest.raises(OutputError, match=r"^choose another --output$"):
        fail()
    assert events == ["note: mask=True helps", "note: --mask helps"]


def test_what_is_printed_has_a_line_of_counts_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("lstm_ray.progress.time.perf_counter", lambda: now)
    with python_call({}, print) as report:
        for done in range(31):
            now = 100.0 + done
            report(Count(done, 30, "rows"))
            if done == 4:
                report("note: at once")
    assert capsys.readouterr().out == "note: at once\n10 of 30 rows\n20 of 30 rows\n30 of 30 rows\n"
    counts: list[Event] = []
    with python_call({}, counts.append) as report:
        report(Count(1, 30, "rows"))
    assert len(counts) == 1, "a bar takes all"


def test_the_environment_is_restored_when_the_last_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TEST_KEPT", "mine")
    monkeypatch.setenv("PROGRAMS_OWN", "before")
    before = dict(os.environ)
    first, second = ExitStack(), ExitStack()
    first.enter_context(python_call({}))
    os.environ["TF_TEST_NEW"] = "1"
    second.enter_context(python_call({}))  # as in another thread
    os.environ["RAY_TEST_KEPT"] = "changed"
    os.environ["PROGRAMS_OWN"] = "by another thread"
    first.close()
    assert os.environ["TF_TEST_NEW"] == "1", "the other call may need it"
    second.close()
    assert dict(os.environ) == {**before, "PROGRAMS_OWN": "by another thread"}


def test_without_a_callback_warnings_are_pythons_and_notes_are_not_shown() -> None:
    with python_call({"allow_seen_files": bool}) as report:
        report("note: --mask helps")
        report(Count(1, 30, "rows"))
        with pytest.warns(UserWarning, match=r"^12 rows: pass allow_seen_files=True$") as warned:
            report("warning: 12 rows: pass --allow-seen-files")
        assert warned[0].filename == __file__, "the line of the caller, not one of this package"
