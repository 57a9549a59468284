"""Drives a headless Chromium over a pipe: opens pages, measures them, and collects their errors."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

# Chromium reads commands from file descriptor 3 and answers on 4, each a JSON object that ends with a zero byte.
# Source: https://chromedevtools.github.io/devtools-protocol/
_PIPES = 'exec "$0" "$@" 3<&0 4>&1 >/dev/null 2>/dev/null'
_COMPLAINTS = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Network.loadingFailed")


class Browser:
    """A headless Chromium with one tab; as a context manager, it ends with the block."""

    def __init__(self, chromium: str, profile: Path) -> None:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["sh", "-c", _PIPES, chromium, *flags, f"--user-data-dir={profile}", "about:blank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._commands = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        """Returns the browser itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the browser."""
        self._process.kill()
        self._process.communicate()

    def open(self, page: Path, width: int, scheme: str) -> list[dict[str, Any]]:
        """Opens a page in a window of this width and colour scheme; returns its errors and requests."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=True)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._events.clear()
        self._call("Page.navigate", url=page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive()
        asked = [event for event in self._events if event["method"] == "Network.requestWillBeSent"]
        others = [event for event in asked if event["params"]["request"]["url"] != page.as_uri()]
        return others + [event for event in self._events if event["method"] in _COMPLAINTS]

    def evaluate(self, script: str) -> Any:
        """Returns the value of a JavaScript expression in the page."""
        answer = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._commands += 1
        command: dict[str, Any] = {"id": self._commands, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._receive()).get("id") != self._commands:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def _receive(self) -> dict[str, Any]:
        """Returns the next message, and keeps it if it is an event."""
        assert self._process.stdout is not None
        content = bytearray()
        while (byte := self._process.stdout.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            content += byte
        message: dict[str, Any] = json.loads(content)
        if "method" in message:
            self._events.append(message)
        return message
