"""What scripts write into docs is what they would write now."""

from __future__ import annotations

import importlib.util
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
