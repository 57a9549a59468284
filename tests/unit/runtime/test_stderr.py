"""What libraries write on stderr is held back, and shown only where it may explain a failure."""

from __future__ import annotations

import os
import threading

import pytest

from lstm_ray.runtime.stderr import held_back


@pytest.mark.parametrize(
    ("error", "shown_on_failure", "shown"),
    [
        (None, True, ""),
        (OSError, True, "noise"),
        (OSError, False, ""),
        (KeyboardInterrupt, True, ""),
    ],
)
def test_noise_is_shown_where_it_may_explain_a_failure(
    error: type[BaseException] | None, shown_on_failure: bool, shown: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        with held_back(shown_on_failure):
            os.write(2, b"noise")
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(error):
            work()
    assert capfd.readouterr().err == shown
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"


def test_ctrl_c_at_once_puts_stderr_back(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    replace = os.dup2

    def replace_and_interrupt(*descriptors: int) -> None:
        monkeypatch.setattr(os, "dup2", replace)
        replace(*descriptors)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "dup2", replace_and_interrupt)
    with pytest.raises(KeyboardInterrupt), held_back():
        pass
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"


def test_two_threads_do_not_leave_each_others_file(capfd: pytest.CaptureFixture[str]) -> None:
    is_in, may_leave = threading.Event(), threading.Event()

    def hold() -> None:
        with held_back():
            is_in.set()
            may_leave.wait(10)

    other = threading.Thread(target=hold)
    with held_back():
        other.start()
        is_in.wait(0.2)  # it does not come in: it would take this thread's file for stderr, and put that back
    may_leave.set()
    other.join()
    os.write(2, b"shown")
    assert capfd.readouterr().err == "shown"
