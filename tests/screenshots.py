"""``python -m tests.console.screenshots FOLDER [WIDTHxHEIGHT …]``: pictures of the console, both gateways dead.

It brings its own lab up. README and the console's page show ``console-1280.webp`` as ``docs/play/console.webp``.
"""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from lab.console import Watcher
from tests.browser import Page, chromium
from tests.console.builders import serving
from tests.console.test_browser import LOADED, await_true, figure, hit, open_page
from tests.labs import lab_up

SIZES = ("1280x800", "390x844")
QUALITY = 70


def main(folder: Path, sizes: list[str]) -> None:
    """Starts load of all callers on the page, kills the gateways, and takes a picture in each size."""
    with TemporaryDirectory() as home, lab_up(Path(home), topologies=("gateway", "mesh")) as lab:
        watcher = Watcher(lab)
        watcher.start()
        try:
            with serving(watcher.board, lab, watcher) as console, chromium() as page:
                door = Path(home) / "door.html"
                console.write_door(door)
                open_page(page, door.as_uri())
                page.evaluate("document.querySelector('#start-load').click()")
                await_true(page, LOADED)
                await_true(page, f"{figure('gateway', 'answered')} > 200")
                with lab.faults.injected("kill", "gateway"):
                    await_true(page, f"{hit('gateway')}.includes('100 % of the requests of 5 of 5 callers')")
                    await_true(page, f"{figure('gateway', 'failed')} > 200")
                    for size in sizes:
                        take(page, folder, size)
                page.evaluate("document.querySelector('#stop-load').click()")
        finally:
            watcher.stop()


def take(page: Page, folder: Path, size: str) -> None:
    """Writes one picture."""
    width, height = map(int, size.split("x"))
    page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
    await_true(page, "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")
    image = page.call("Page.captureScreenshot", format="webp", quality=QUALITY)["data"]
    (folder / f"console-{width}.webp").write_bytes(base64.b64decode(image))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(SIZES))
