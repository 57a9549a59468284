"""The process of the command line: Ctrl-C and SIGTERM once, twice, too late, and where they are ignored."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_COMMAND = """
import atexit, signal, sys, time
from lstm_ray.cli import app, process

def pause(name):
    print(name, flush=True)
    time.sleep(3)

def command():
{command}

atexit.register({at_exit})
app.main = command
process.main()
"""
_WORKS = "pause('at work')\nsys.exit(3)"
_IS_INTERRUPTED = "try:\n    pause('at work')\nexcept KeyboardInterrupt:\n    print('how to go on')\n    sys.exit(130)"
_CLEANS_UP = "try:\n    pause('at work')\nfinally:\n    pause('cleaning up')"


def run(
    command: str,
    at_exit: str,
    *sent: signal.Signals,
    preexec: Callable[[], object] | None = None,
) -> tuple[int, list[str]]:
    """Runs a command that is sent a signal in each of its first pauses; returns exit code and lines on stdout."""
    indented = "\n".join(f"    {line}" for line in (command or "pass").splitlines())
    code = _COMMAND.format(command=indented, at_exit=at_exit)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, preexec_fn=preexec
    ) as process:
        assert process.stdout is not None
        lines = []
        for number in sent:
            lines.append(process.stdout.readline().strip())
            process.send_signal(number)
        rest = process.stdout.read().splitlines()
    return process.returncode, lines + rest


def run_with(streams: str, command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command whose standard streams a shell has redirected."""
    code = _COMMAND.format(command="\n".join(f"    {line}" for line in command.splitlines()), at_exit="print")
    return subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {streams}', sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_a_character_that_stdout_lacks_is_escaped_and_json_stays_json() -> None:
    said = {"text": "un café, \U0001f600"}
    show = f"from lstm_ray.cli import console\nimport json\nconsole.show_text(json.dumps({said!r}, ensure_ascii=False))"
    done = run_with("", show, PYTHONIOENCODING="ascii")
    assert (json.loads(done.stdout), done.stderr) == (said, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    path = tmp_path / "file"
    work = (
        "from lstm_ray.cli import console\nfrom lstm_ray.errors import OutputError\n"
        "import contextlib\nimport os\nimport pytest\n"
        f"with open({str(path)!r}, 'w') as file:\n    console.say('note')\n"
        f"    with {'pytest.raises(OutputError)' if '>&-' in closed.split() else 'contextlib.nullcontext()'}:\n"
        "        console.show_line('result')\n"
        "    os.write(1, b'of a library')\n    sys.stdin.read()\nsys.exit(3)"
    )
    assert run_with(closed, work).returncode == 3
    assert path.read_bytes() == b""


def test_a_full_disk_under_a_log_ends_no_work_and_under_a_result_is_an_error() -> None:
    show = "from lstm_ray.cli import console\nfrom lstm_ray.errors import OutputError\nconsole.say('note')\n"
    done = run_with("2>/dev/full", show + "console.show_line('result')\nsys.exit(3)")
    assert (done.returncode, done.stdout.splitlines()[0]) == (3, "result")
    show += "try:\n    console.show_line('result')\nexcept OutputError as error:\n"
    show += "    console.fail(str(error))\n    sys.exit(1)"
    done = run_with(">/dev/full", show)
    assert (done.returncode, done.stderr) == (1, "note\nerror: stdout cannot be written: no space left on device\n")


SIGINT, SIGTERM = signal.SIGINT, signal.SIGTERM


@pytest.mark.parametrize(
    ("command", "at_exit", "sent", "code", "lines"),
    [
        (_WORKS, "print, 'taken down'", (), 3, ["at work", "taken down"]),
        (_IS_INTERRUPTED, "print, 'taken down'", (SIGINT,), 130, ["at work", "how to go on"]),
        (_IS_INTERRUPTED, "print, 'taken down'", (SIGTERM,), 143, ["at work", "how to go on"]),
        ("pause('at work')", "print, 'taken down'", (SIGTERM,), 143, ["at work"]),
        (_CLEANS_UP, "print, 'taken down'", (SIGINT, SIGINT), 130, ["at work", "cleaning up"]),
        (_CLEANS_UP, "print, 'taken down'", (SIGTERM, SIGTERM), 143, ["at work", "cleaning up"]),
        ("print('done')", "pause, 'taken down'", (), 0, ["done", "taken down"]),
    ],
)
def test_an_interrupted_process_ends_without_being_taken_down(
    command: str, at_exit: str, sent: tuple[signal.Signals, ...], code: int, lines: list[str]
) -> None:
    assert run(command, at_exit, *sent) == (code, lines)


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_what_is_done_cannot_be_interrupted(number: signal.Signals) -> None:
    assert run("", "pause, 'taken down'", number) == (0, ["taken down"])


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_that_the_caller_has_ignored_stays_ignored(number: signal.Signals) -> None:
    def ignore() -> None:
        signal.signal(number, signal.SIG_IGN)

    assert run(_WORKS, "print, 'taken down'", number, preexec=ignore) == (3, ["at work", "taken down"])


def test_a_python_without_our_dependencies_is_named() -> None:
    command = [sys.executable, "-S", "-m", "lstm_ray", "--version"]  # -S: without site-packages
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: {re.escape(sys.executable)} has no module '\w+': is that Ray's Python\? On a cluster, .*\n",
        done.stderr,
    )
