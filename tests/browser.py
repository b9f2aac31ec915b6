"""A headless Chromium, driven by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from lab.waiting import eventually
from tests.missing import missing

FLAGS = (
    "--headless",
    "--no-sandbox",  # continuous integration is root
    "--disable-gpu",
    "--disable-dev-shm-usage",  # of a container, which may be small
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# The protocol is spoken over the descriptors 3 and 4.
_PIPED = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1'
_PATIENCE = timedelta(seconds=30)
_GONE = re.compile(
    "navigated or closed|context was destroyed|Cannot find context|Cannot find default execution context"
)
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowRight": 39}
_BAD = ("error", "warning", "assert")

# What reaches beyond the window, unless an element around it scrolls; such an element must be reachable by keyboard.
_OVERFLOW = """[...document.querySelectorAll('body *')].filter(each => {
  const box = each.getBoundingClientRect();
  if (box.width === 0 || box.right <= document.documentElement.clientWidth + 1) return false;
  for (let at = each.parentElement; at; at = at.parentElement)
    if (['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(at).overflowX)) return false;
  return !each.closest('svg') || each.tagName === 'svg';
}).map(each => each.outerHTML.slice(0, 120))"""


class PageGoneError(AssertionError):
    """The page was left before an expression had a value."""


class Page:
    """A tab.

    Attributes:
        complaints: errors and warnings that the page wrote to its console, and what it threw.
        pid: of the browser's first process.
        requested: addresses that it asked for, without those of data inside the page.
    """

    def __init__(self, browser: subprocess.Popen[bytes]) -> None:
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self.pid = browser.pid
        self._browser = browser
        self._read = b""
        self._calls = 0
        self._dark, self._media = False, ""
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)  # else nothing gets the focus behind others

    def call(self, method: str, **params: Any) -> Mapping[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": params, **self._session}
        assert self._browser.stdin is not None
        self._browser.stdin.write(json.dumps(message).encode() + b"\0")
        self._browser.stdin.flush()
        while (answer := self._next()).get("id") != self._calls:
            self._note(answer)
        if "error" in answer:
            said = f"{method}: {answer['error']}"
            raise PageGoneError(said) if _GONE.search(said) else AssertionError(said)
        result: Mapping[str, Any] = answer["result"]
        return result

    def _next(self) -> Mapping[str, Any]:
        assert self._browser.stdout is not None
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._browser.stdout], [], [], _PATIENCE.total_seconds())
            assert ready, f"chromium is silent; its status is {self._browser.poll()}"
            read = os.read(self._browser.stdout.fileno(), 1 << 20)
            assert read, f"chromium ended with status {self._browser.wait()}"
            self._read += read
        message, _, self._read = self._read.partition(b"\0")
        found: Mapping[str, Any] = json.loads(message)
        return found

    def _note(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"method": "Network.requestWillBeSent", "params": {"request": {"url": url}}}:
                if not url.startswith(("data:", "blob:")):
                    self.requested.append(url)
            case {"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": said}}:
                self.complaints.append(json.dumps(said)[:500])
            case {"method": "Runtime.consoleAPICalled", "params": {"type": kind, "args": said}} if kind in _BAD:
                self.complaints.append(json.dumps(said)[:500])
            case {"method": "Log.entryAdded", "params": {"entry": {"level": kind} as said}} if kind in _BAD:
                self.complaints.append(json.dumps(said)[:500])

    def evaluate(self, script: str) -> Any:
        """Returns the value of an expression, of a promise what it is fulfilled with."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def probe(self, script: str) -> Any:
        """As :meth:`evaluate`; None if the page was left before the expression had a value, as while another loads."""
        try:
            return self.evaluate(script)
        except PageGoneError:
            return None

    def open(self, url: str, *, width: int = 1400, dark: bool = False, media: str = "") -> None:
        """Opens an address in a window of this width, and waits until the page is complete."""
        self.resize(width)
        self._dark, self._media = dark, media
        self._show(dark=dark)
        for address in ("about:blank", url):  # by way of a blank page, so that no older one looks complete
            self.call("Page.navigate", url=address)
            self._await(address)

    def _show(self, *, dark: bool) -> None:
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=features, media=self._media)

    def _await(self, url: str) -> None:
        eventually(
            f"{url} is complete",
            lambda: self.probe("[location.href, document.readyState]"),
            within=_PATIENCE,
            until=lambda seen: bool(seen == [url, "complete"]),
        )

    def resize(self, width: int) -> None:
        """Gives the window this width, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)

    def press(self, key: str, *, shift: bool = False) -> None:
        """Presses and releases a key."""
        text = {"Enter": "\r", " ": " "}.get(key, "")
        params = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0), "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **params)
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def hover(self, x: float, y: float) -> None:
        """Moves the mouse there."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Clicks there with the left button."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def overflowing(self) -> Sequence[str]:
        """Returns the elements that are cut at the window's right edge."""
        found: list[str] = self.evaluate(_OVERFLOW)
        return found

    def violations(self, *impacts: str, within: object = "html") -> Sequence[str]:
        """Returns which rules of axe are broken with one of these impacts, each with the first element.

        Args:
            impacts: of ``minor``, ``moderate``, ``serious`` and ``critical``.
            within: what to check, as axe takes it: a selector, or an object; the whole page by default.
        """
        self.evaluate(_axe())
        found: list[str] = self.evaluate(
            f"axe.run({json.dumps(within)}, {{resultTypes: ['violations']}}).then(found => found.violations"
            f".filter(each => {json.dumps(impacts)}.includes(each.impact))"
            ".map(each => `${each.id}, ${each.nodes.length} times: ${each.nodes[0].html.slice(0, 200)}: "
            "${each.nodes[0].failureSummary}`))"
        )
        return found

    def picture(self, path: Path) -> None:
        """Saves a picture of the whole page."""
        size = self.evaluate("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(found["data"]))

    def keep_picture(self, name: str) -> None:
        """Saves pictures, light and dark, in the folder that ``LAB_SCREENSHOTS`` names; does nothing without one."""
        if folder := os.environ.get("LAB_SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            for theme in ("light", "dark"):
                self._show(dark=theme == "dark")
                self.picture(Path(folder) / f"{name}-{theme}.png")
            self._show(dark=self._dark)


def installed() -> str:
    """The path of Chromium; skips the test without it."""
    return shutil.which("chromium") or missing("there is no chromium; on Debian, `make chromium` installs it")


@contextmanager
def chromium() -> Iterator[Page]:
    """A tab of its own Chromium, which ends with it."""
    program = installed()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        subprocess.Popen(
            ["sh", "-c", _PIPED, program, *FLAGS, f"--user-data-dir={home}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "HOME": home, "TMPDIR": home},
            start_new_session=True,
        ) as browser,
    ):
        try:
            yield Page(browser)
        finally:
            browser.terminate()
            browser.wait()
            with suppress(ProcessLookupError):  # its other processes, which would go on writing into its folder
                os.killpg(browser.pid, signal.SIGKILL)


@cache
def _axe() -> str:
    return (files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8")


def await_true(page: Page, script: str, *, within: timedelta = timedelta(seconds=60)) -> None:
    """Waits until an expression is true, of whichever document the page then shows."""
    eventually(script, lambda: page.probe(script), within=within)
