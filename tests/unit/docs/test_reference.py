"""The files that scripts write into docs are up to date."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pages


def script(name: str) -> ModuleType:
    """Imports a script of scripts/."""
    spec = importlib.util.spec_from_file_location(name, pages.ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_up_to_date() -> None:
    stale = [name for name, text in script("reference").pages().items() if pages.read(f"docs/reference/{name}") != text]
    assert not stale, "run `python scripts/reference.py`"


def test_the_picture_shows_the_figures_of_the_tables() -> None:
    stale = [name for name, text in script("readme_picture").pictures().items() if pages.read(f"docs/{name}") != text]
    assert not stale, "run `python scripts/readme_picture.py`"


def test_the_messages_on_the_page_of_errors_are_the_programs() -> None:
    sources = " ".join(path.read_text(encoding="utf-8") for path in (pages.ROOT / "lstm_ray").rglob("*.py"))
    # Strings of several lines become one, and what is inserted becomes a gap.
    literal = re.sub(r"\{[^{}]*\}", "…", re.sub(r'"\s*\n\s*f?"', "", sources))
    rows = re.findall(
        r"^\| (`.*) \| [^|]*\|$", pages.read("docs/reference/errors.md").split("## Input")[1], re.MULTILINE
    )
    unknown = []
    for message in (message for row in rows for message in re.findall(r"``(.+?) ``|`([^`]+)`", row)):
        text = "".join(message)
        longest = max(re.split(r"\.\.\.|'[^']*'|[\w/*]*\.[a-z]+|[\d.,:]+|`[^`]*`|--[\w-]+|[()]", text), key=len).strip()
        if longest not in literal:
            unknown.append(f"{longest} | {text}")
    assert not unknown, "\n".join(unknown)
    assert len(rows) > 50
