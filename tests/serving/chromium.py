"""Chromium without a window, driven by its DevTools protocol over a pipe: no package and no port is needed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

SECONDS: Final = 30.0
COMMANDS: Final = ("chromium", "chromium-browser", "google-chrome")
KEYS: Final = {
    "Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
    "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip


def chromium_command() -> str | None:
    """Where Chromium is, if it is."""
    return next((found for name in COMMANDS if (found := shutil.which(name))), None)


class Chromium:
    """A browser with one tab.

    Args:
        profile: folder for what it writes.
    """

    def __init__(self, profile: Path) -> None:
        command = chromium_command()
        assert command is not None
        into, self._write = os.pipe()
        self._read, out = os.pipe()
        words = [
            command, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
            "--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe",
            "--disable-dev-shm-usage", f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank",
        ]  # fmt: skip
        # Chromium reads its commands from file 3 and answers on file 4.
        shell = ["bash", "-c", f'exec "$@" 3<&{into} 4>&{out} 2>/dev/null', "bash", *words]
        self._process = subprocess.Popen(shell, pass_fds=(into, out), stdout=subprocess.DEVNULL)
        os.close(into)
        os.close(out)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._write)  # at which Chromium ends
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            answer = self._next(end - time.monotonic())
            assert answer is not None, f"no answer to {method}"
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self, seconds: float) -> dict[str, Any] | None:
        while b"\0" not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, seconds))[0]:
                return None
            read = os.read(self._read, 1 << 20)
            assert read, "Chromium has ended"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression; a promise is waited for."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"never became true: {script}\n{self.run('document.body.innerText')}"
            time.sleep(0.02)

    def open(self, address: str) -> None:
        """Load a page anew, in a tab that remembers nothing of another one."""
        self.send("Page.navigate", url="about:blank")
        self.events.clear()
        found = self.send("Page.navigate", url=address)
        assert "errorText" not in found, f"{address}: {found['errorText']}"
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def press(self, *keys: str) -> None:
        """Press keys one after another, where the focus is."""
        for key in keys:
            name = key.removeprefix("Shift+")
            code = KEYS[name]
            text = {"Enter": "\r", " ": " "}.get(name)
            sent: dict[str, Any] = {
                "key": name, "code": {" ": "Space"}.get(name, name), "windowsVirtualKeyCode": code,
                "modifiers": 8 if key != name else 0,
            }  # fmt: skip
            down = sent | ({"text": text} if text else {})
            self.send("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **down)
            self.send("Input.dispatchKeyEvent", type="keyUp", **sent)

    def write(self, text: str) -> None:
        """Write where the focus is."""
        self.send("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click into the middle of the first element that a selector finds."""
        place = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2] }})(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the tab."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def scheme(self, name: str) -> None:
        """Prefer light or dark."""
        self.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path: Path) -> None:
        """Write what is seen."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def said(self) -> list[str]:
        """What the console and the browser said since the page was opened, faults among it."""
        self.run("0")  # reads what has been sent so far
        found = []
        for event in self.events:
            told = event.get("params", {})
            if event.get("method") == "Runtime.consoleAPICalled":
                found.append(str(told["args"]))
            elif event.get("method") == "Runtime.exceptionThrown":
                found.append(str(told["exceptionDetails"].get("exception", told["exceptionDetails"])))
            elif event.get("method") == "Log.entryAdded":
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        return found

    def requested(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        self.run("0")
        return [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
