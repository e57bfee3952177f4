"""A headless Chromium that a test steers, through ChromeDriver's own protocol: what a person sees, clicks and types.

Everything that the browser asked for and everything that it complained of is kept, so that a test can count it.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE_S = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # no network, whatever the machine has
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


class Browser:
    """One window."""

    def __init__(self, address: str, session: str) -> None:
        self._session = f"{address}/session/{session}"

    def open(self, url: str) -> None:
        self._ask("POST", "url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """The value of ``return ...`` in a script."""
        return self._ask("POST", "execute/sync", {"script": script, "args": arguments})

    def until(self, script: str, *arguments: object) -> Any:
        """As `run`, once it is something that counts as true."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            value = self.run(script, *arguments)
            if value:
                return value
            time.sleep(0.1)
        raise AssertionError(f"never true in {PATIENCE_S:g} s: {script}")

    def resize(self, width: int, *, dark: bool = False) -> None:
        """A screen of another width, as a telephone or a person in the dark has it."""
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        for command, parameters in (
            ("Emulation.setDeviceMetricsOverride", metrics),
            ("Emulation.setEmulatedMedia", {"media": "", "features": [scheme]}),
        ):
            self._ask("POST", "goog/cdp/execute", {"cmd": command, "params": parameters})

    def print_on(self, width: int, *, dark: bool = False) -> None:
        """The same page as paper of a width shows it, from a light or a dark screen."""
        self.resize(width)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        media = {"media": "print", "features": [scheme]}
        self._ask("POST", "goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": media})

    def press(self, key: str, code: str = "") -> None:
        """A key of the keyboard, such as ``Tab`` or ``Enter``."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            event = {"type": kind, "key": key, "code": code or key, "text": text if kind == "keyDown" else ""}
            event["windowsVirtualKeyCode"] = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32}.get(key, 0)  # type: ignore[assignment]
            self._ask("POST", "goog/cdp/execute", {"cmd": "Input.dispatchKeyEvent", "params": event})

    def complaints(self) -> list[str]:
        """Warnings and errors of the console since the last look."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in ("WARNING", "SEVERE")]

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last look, but for what the page itself holds."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        asked = [
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "blob:"))]

    def close(self) -> None:
        self._ask("DELETE", "")

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found = self._ask("POST", "se/log", {"type": kind})
        assert isinstance(found, list)
        return found

    def _ask(self, method: str, route: str, body: object = None) -> Any:
        return _ask(method, f"{self._session}/{route}".rstrip("/"), body)


def _ask(method: str, url: str, body: object = None) -> Any:
    data = json.dumps({} if body is None else body).encode() if method == "POST" else None
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {url}: {error.read().decode()[:2000]}") from error


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile in a folder; the test is skipped where there is none."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no chromium and chromedriver on this machine: nothing can look at a page as a person does")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {"binary": browser, "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]}
    wanted = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
    }
    command = [driver, f"--port={port}", "--log-level=OFF"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(address)
            session = _ask("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            window = Browser(address, session)
            window.open("about:blank")
            window.requests()  # those of the page that a new window shows
            try:
                yield window
            finally:
                window.close()
        finally:
            process.terminate()


def _wait(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, AssertionError):
            if _ask("GET", f"{address}/status")["ready"]:
                return
        time.sleep(0.1)
    raise AssertionError("ChromeDriver did not start")
