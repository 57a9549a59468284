"""constraints-oldest.txt has exactly the minimum versions of pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_oldest_versions_tested_are_the_oldest_allowed() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dependencies = re.search(r"^dependencies = \[\n(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert dependencies
    oldest = dict(re.findall(r'"([\w-]+)(?:\[.*?\])?>=([\d.]+)(?:,[^"]*)?"', dependencies[1]))
    pins = re.findall(
        r"^([\w-]+)==([\d.]+)", (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    pinned = {name.lower(): version for name, version in pins}
    assert len(oldest) >= 12
    for name, version in oldest.items():
        assert name in pinned, f"{name}: constraints-oldest.txt does not name it"
        found = pinned[name]
        assert (found + ".0.0").startswith(version + ".") or found == version, (
            f"{name}: {found}, allowed from {version}"
        )
