"""An actor without Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Remote:
    """Calls an actor's methods as Ray would, at once; `ray.get` has to return what it is given."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))
