"""Runs a command and measures all its processes, those of a Ray that it starts included: CPU time and peak memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """What a command took.

    Attributes:
        seconds: Wall time.
        cpu_s: CPU seconds of all processes of each kind; the last 0.05 s of a process may be missing.
        peak_mib: Largest peak of memory among the processes of each kind, MiB.
        count: Number of processes of each kind.
    """

    seconds: float
    cpu_s: dict[str, float]
    peak_mib: dict[str, float]
    count: dict[str, int]


@dataclass
class _Process:
    kind: str
    cpu_s: float
    peak_mib: float


def measure(command: Sequence[str]) -> Measured:
    """Runs a command, without its output.

    Raises:
        SystemExit: It failed.
    """
    mark = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a short path, because that of Ray's sockets is limited
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        driver = subprocess.Popen(
            command, env={**os.environ, "RAY_TMPDIR": mark}, stdout=subprocess.DEVNULL, stderr=errors
        )
        found: dict[int, _Process] = {}
        others: set[int] = set()
        while driver.poll() is None:
            look(mark, driver.pid, found, others)
            time.sleep(POLL_S)
        seconds = time.perf_counter() - begun
        if driver.returncode:
            errors.seek(0)
            raise SystemExit(f"failed: {command}\n{errors.read()[-2000:].decode()}")
    shutil.rmtree(mark, ignore_errors=True)
    cpu_s: dict[str, float] = defaultdict(float)
    peak_mib: dict[str, float] = defaultdict(float)
    for process in found.values():
        cpu_s[process.kind] += process.cpu_s
        peak_mib[process.kind] = max(peak_mib[process.kind], process.peak_mib)
    return Measured(seconds, dict(cpu_s), dict(peak_mib), Counter(process.kind for process in found.values()))


def look(mark: str, driver: int, found: dict[int, _Process], others: set[int]) -> None:
    """Updates the processes that have `mark` in their environment; remembers which have not."""
    numbers = {int(name) for name in os.listdir("/proc") if name.isdigit()}
    others &= numbers
    for number in numbers - others:
        place = Path("/proc", str(number))
        try:
            if number not in found and f"RAY_TMPDIR={mark}".encode() not in (place / "environ").read_bytes():
                others.add(number)
                continue
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").split()
            fields = (place / "stat").read_text().rpartition(")")[2].split()
            status = (place / "status").read_text()
        except (OSError, ProcessLookupError):
            continue  # the process has ended
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), None)
        if peak and words:
            cpu_s = (int(fields[11]) + int(fields[12])) / TICKS_PER_S
            kind = "driver" if number == driver else _kind(words)
            found[number] = _Process(kind, cpu_s, int(peak) / 1024)


def _kind(words: Sequence[str]) -> str:
    """Returns the kind of a process with this command line. Ray names its workers after what they run."""
    name = words[0].rsplit("/", 1)[-1]
    if name.startswith("python"):
        return next((word.rsplit("/", 1)[-1] for word in words[1:] if word.endswith(".py")), name)
    return name.split("(")[0].split(".")[0] if name.startswith("ray::") else name
