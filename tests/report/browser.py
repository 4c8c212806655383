"""A headless Chromium, driven through its pipe, and axe in it; both are optional.

`make services` installs both. Chromium is looked for on the path. The file `axe.min.js` of axe-core is looked for where
the variable AXE says, and in `node_modules/axe-core` of the checkout.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), "")
_PLACES = (os.environ.get("AXE", ""), Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js")
AXE = next((Path(place) for place in _PLACES if place and Path(place).is_file()), None)
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe")  # fmt: skip
_BEGIN = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
_FOCUS = """(() => {
  const at = document.activeElement, style = getComputedStyle(at);
  if (at === document.body) return null;
  const all = [...document.querySelectorAll('*')];
  return [all.indexOf(at), style.outlineStyle !== 'none' || style.boxShadow !== 'none'];
})()"""
_REACHABLE = """[...document.querySelectorAll('a[href], summary, [tabindex="0"], button, input')]
  .filter(one => one.checkVisibility()).length"""


@dataclass
class Seen:
    """What a page did: messages on the console, requests, width beyond the window, steps of the tab key, findings.

    Attributes:
        focus: (number of the element, whether its focus is visible) after each press of the tab key.
        reachable: number of elements that the tab key must reach.
        findings: serious and critical findings of axe, with the first element of each; None without axe.
    """

    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    too_wide: int = 0
    focus: list[tuple[int, bool]] = field(default_factory=list)
    reachable: int = 0
    findings: list[str] | None = None


class Browser:
    """One tab of a Chromium; commands and answers are JSON that ends with a zero byte."""

    def __init__(self, commands: io.RawIOBase, answers: io.BufferedReader) -> None:
        self._commands, self._answers = commands, answers
        self._number, self._session, self._rest = 0, "", b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """The answer to a command; events before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = self._answers.read1(1 << 20)
            assert more, "Chromium ended"
            self._rest += more
        data, self._rest = self._rest.split(b"\0", 1)
        return json.loads(data)

    def value(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, file: Path, width: int, height: int = 900) -> None:
        """Show a file in a window of this width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def seen(self, file: Path, width: int, n_tabs: int = 20) -> Seen:
        """Open a page, press the tab key, run axe; everything is reported."""
        self.open(file, width)
        found = Seen(reachable=int(self.value(_REACHABLE)))
        found.too_wide = int(self.value("document.documentElement.scrollWidth")) - width
        for _ in range(min(found.reachable, n_tabs)):
            for kind in ("rawKeyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            at = self.value(_FOCUS)
            if at is not None:
                found.focus.append((at[0], at[1]))
        if AXE is not None:
            self.value(AXE.read_text())
            said = self.value("axe.run(document, {preload: false, resultTypes: ['violations']})")
            found.findings = [
                f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:150]}"
                for one in said["violations"]
                if one["impact"] in ("serious", "critical")
            ]
        for event in self.events:
            method, said = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent":
                url = said["request"]["url"]
                found.requests += [url] if url != file.as_uri() and not url.startswith("data:") else []
            elif method == "Runtime.exceptionThrown" or (
                method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert")
            ) or (method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning")):  # fmt: skip
                found.console.append(json.dumps(said)[:300])
        return found

    def picture(self, file: Path, width: int, to: Path) -> None:
        """Write a PNG of the whole page."""
        import base64

        self.open(file, width)
        whole = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(whole["data"]))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A Chromium that keeps its files in `folder` and ends with the context."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    high = [fcntl.fcntl(one, fcntl.F_DUPFD, 20) for one in (theirs_in, theirs_out)]  # not 3 and 4 themselves
    line = [CHROMIUM, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
    begin = [sys.executable, "-c", _BEGIN, *map(str, high), *line]
    process = subprocess.Popen(begin, pass_fds=high, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for one in (theirs_in, theirs_out, *high):
        os.close(one)
    try:
        with os.fdopen(ours_out, "wb", buffering=0) as commands, os.fdopen(ours_in, "rb") as answers:
            yield Browser(commands, answers)
    finally:
        process.terminate()
        process.wait(20)
