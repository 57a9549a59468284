"""An installed package has all its files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_files_besides_modules_are_package_data() -> None:
    """Without an entry in pyproject.toml, a wheel holds the Python files only."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = re.search(r"^\[tool\.setuptools\.package-data\]\n((?:.+\n)+)", project, re.MULTILINE)
    assert section
    patterns = [
        f"{package.replace('.', '/')}/{pattern}"
        for package, patterns in re.findall(r'^"?([\w.]+)"? = (\[.*\])$', section[1], re.MULTILINE)
        for pattern in ast.literal_eval(patterns)
    ]
    others = [path for path in (ROOT / "lstm_ray").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}]
    assert ROOT / "lstm_ray/py.typed" in others, "type checkers ignore the types of a package without it"
    for path in others:
        assert any(path.match(pattern) for pattern in patterns), f"{path.relative_to(ROOT)}: would not be installed"
