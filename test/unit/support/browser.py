"""Control a headless Chromium through its debugging pipe. This needs no driver program and no package."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT = 90.0  # seconds to wait for an answer; a busy machine starts a browser slowly


def find_browser() -> str | None:
    """Return the value of the environment variable CHROMIUM, or the first of NAMES on the PATH, or None."""
    given = os.environ.get("CHROMIUM")
    return given or next((found for name in NAMES if (found := shutil.which(name))), None)


class Pipe:
    """Exchange JSON messages with the browser. A zero byte ends each message."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._write, self._read = to_browser, from_browser
        self._number, self._rest = 0, b""

    def call(self, method: str, session: str = "", note=None, **parameters: Any) -> dict:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._write, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            if note is not None and answer.get("sessionId") == session and "method" in answer:
                note(answer["method"], answer["params"])

    def _next(self) -> dict:
        while b"\0" not in self._rest:
            ready, _, _ = select([self._read], [], [], TIMEOUT)
            assert ready, f"the browser has not answered within {TIMEOUT} s"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser has ended unexpectedly"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@dataclass
class Page:
    """One tab of the browser.

    Attributes:
        complaints: collects the errors, warnings and exceptions of the console.
        requests: collects the URLs that the page loads.
    """

    pipe: Pipe
    session: str
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def call(self, method: str, **parameters: Any) -> dict:
        return self.pipe.call(method, self.session, self._note, **parameters)

    def open(self, path: Path, width: int, height: int = 900, dark: bool = False, reduced_motion: bool = False) -> None:
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call("Page.navigate", url=path.resolve().as_uri())
        deadline = time.monotonic() + TIMEOUT
        while self.value("document.readyState") != "complete" or self.value("location.protocol") != "file:":
            assert time.monotonic() < deadline, f"the page has not loaded within {TIMEOUT} s"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """Evaluate a JavaScript expression and return its value."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path, whole: bool = True) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def _note(self, method: str, event: dict) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(event["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(event["exceptionDetails"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.complaints.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(event["args"]))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """Start a browser with one empty tab, and stop the browser at the end of the block.

    The test is skipped if no browser is installed.

    Args:
        profile: folder for the data of the browser. It must not exist.
    """
    command = find_browser()
    if command is None:
        pytest.skip("no Chromium on the PATH or in the variable CHROMIUM; install it with apt-get install chromium")
    profile.mkdir(parents=True)
    ours_read, theirs_write = os.pipe()
    theirs_read, ours_write = os.pipe()
    options = [
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic",
        "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    # The browser reads commands from descriptor 3 and writes answers to descriptor 4.
    shell = ["bash", "-c", f'exec "$@" 3<&{theirs_read} 4>&{theirs_write}', "bash", command, *options]
    process = subprocess.Popen(
        shell, pass_fds=(theirs_read, theirs_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env={**os.environ, "HOME": str(profile)},
    )  # fmt: skip
    os.close(theirs_read)
    os.close(theirs_write)
    try:
        pipe = Pipe(ours_write, ours_read)
        target = pipe.call("Target.createTarget", url="about:blank")["targetId"]
        session = pipe.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        yield Page(pipe, session)
    finally:
        process.terminate()
        process.wait(TIMEOUT)
        os.close(ours_write)
        os.close(ours_read)
