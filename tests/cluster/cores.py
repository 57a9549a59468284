"""Gives processes a part of a core, and measures the CPU time that they used, by a control group. Root only.

They get it before other work of the machine does, so that they are as fast as on a host that has no more than that.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
_PERIOD_US = 100_000
_WEIGHT = 10  # times that of a process outside


class CoreLimit:
    """A control group, of version 1 or 2.

    Attributes:
        directories: Of the group. Version 1 limits in one and measures in another. Once its processes have ended, they
            can be removed (`rmdir`).
    """

    def __init__(self, name: str, cores: float, root: Path = ROOT) -> None:
        """Makes the group.

        Args:
            name: Its name; must be new.
            cores: Cores whose time its processes get at most, together.
            root: Where control groups are mounted.

        Raises:
            OSError: The machine does not allow it.
        """
        quota = int(cores * _PERIOD_US)
        self._is_version_2 = (root / "cgroup.controllers").exists()
        if self._is_version_2:
            (root / "cgroup.subtree_control").write_text("+cpu")
            self.directories = [root / name]
            settings = {"cpu.max": f"{quota} {_PERIOD_US}", "cpu.weight": str(100 * _WEIGHT)}
        else:
            self.directories = [root / "cpu" / name, root / "cpuacct" / name]  # where both are one: the same twice
            shares = str(1024 * _WEIGHT)
            settings = {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota), "cpu.shares": shares}
        for directory in self.directories:
            directory.mkdir(exist_ok=True)
        for file, value in settings.items():
            (self.directories[0] / file).write_text(value)

    def command(self, *arguments: object) -> list[str]:
        """Returns a command that runs another one inside the group, as the same process."""
        enter = "".join(f"echo $$ > {directory}/cgroup.procs && " for directory in self.directories)
        return ["sh", "-c", f'{enter}exec "$@"', "sh", *map(str, arguments)]

    def cpu_s(self) -> float:
        """Returns the CPU time that processes of the group have used so far."""
        if not self._is_version_2:
            return int((self.directories[1] / "cpuacct.usage").read_text()) / 1e9
        lines = dict(line.split() for line in (self.directories[0] / "cpu.stat").read_text().splitlines())
        return int(lines["usage_usec"]) / 1e6
