"""``python -m tests.screenshots FOLDER [NAME …]``: pictures of each page in three windows, light and dark.

Pages are the console with both gateways dead, four kinds of report, and the docs' first page; with a NAME only those.
It brings its own lab up. README and the console's page show ``console-1280-light.webp`` as ``docs/play/console.webp``.
It prints what axe objects to; the exit status is 1 if that is something.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lab.lab import Lab
from lab.load.progress import Progress
from lab.plugins.console import Watcher
from lab.report import ReportedBench, ReportedRun, read_benches, read_runs, write_report
from lab.runs import LoadOptions, runs_in
from lab.waiting import eventually
from tests.browser import Page, await_true, chromium
from tests.docs.test_site import built_in
from tests.lab_command import run_lab
from tests.labs import drive_all, lab_up, unique_lab
from tests.plugins.console.builders import serving
from tests.plugins.console.test_browser import LOADED, figure, hit, open_page
from tests.plugins.console.test_sizes_of_the_page import SIZES_OF_TEXTS, SMALLEST_PX
from tests.report.test_browser import KINDS

WITHIN = timedelta(seconds=30)
LOAD: dict[str, Any] = {"rate": 50.0, "duration_s": 8.0}
SIZES = ((390, 844), (1280, 800), (1920, 1080))
QUALITY = 70
_DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
_READABLE = """[...document.querySelectorAll('.chart svg text')]
  .filter(each => each.checkVisibility() && each.textContent)
  .slice(0, 8).every(each => parseFloat(getComputedStyle(each).fontSize) * each.getScreenCTM().a >= 10)"""

_LAID_OUT = f"Math.min(...{SIZES_OF_TEXTS}) >= {SMALLEST_PX}"  # after the window changed

_FOLDED = "document.querySelectorAll('details:not([open])')"
_REACHED = """[...document.querySelectorAll('.scroll')]
  .every(each => each.scrollWidth <= each.clientWidth + 1 || each.tabIndex === 0)"""


@contextmanager
def console(page: Page) -> Iterator[Callable[[], object]]:
    """Starts load of all callers on the page, and kills the gateways."""
    with TemporaryDirectory() as home, lab_up(Path(home), topologies=("gateway", "mesh")) as lab:
        watcher = Watcher(lab)
        watcher.start()
        try:
            with serving(watcher.board, lab, watcher) as live:
                door = Path(home) / "door.html"
                live.write_door(door)
                open_page(page, door.as_uri())
                page.evaluate("document.querySelector('#start-load').click()")
                await_true(page, LOADED)
                await_true(page, f"{figure('gateway', 'answered')} > 200")
                with lab.faults.injected("kill", "gateway"):
                    await_true(page, f"{hit('gateway')}.includes('100 % of the requests of 5 of 5 callers')")
                    await_true(page, f"{figure('gateway', 'failed')} > 200")
                    yield lambda: await_true(page, _LAID_OUT)
                page.evaluate("document.querySelector('#stop-load').click()")
        finally:
            watcher.stop()


@contextmanager
def file(page: Page, address: str) -> Iterator[Callable[[], object]]:
    """A page that is read anew in each window, as a phone does."""

    def show() -> None:
        page.call("Page.navigate", url="about:blank")
        page.call("Page.navigate", url=address)
        await_true(page, f"location.href === {address!r} && document.readyState === 'complete' && {_READABLE}")

    yield show


def reported(home: Path, kinds: Collection[str]) -> dict[str, str]:
    """Writes reports of those kinds, each of what a lab has done just now; returns their addresses."""
    contents: dict[str, tuple[list[ReportedRun], list[ReportedBench]]] = {}
    if {"one", "two", "kill"} & set(kinds):
        with lab_up(home, topologies=("gateway", "mesh")) as lab:
            two = read_runs([each.folder for each in drive_all(lab, ("mesh", "gateway"), **LOAD).values()])
            contents |= {"one": (two[:1], []), "two": (two, []), "kill": (read_runs(runs_in(with_a_kill(lab))), [])}
    if "bench" in kinds:
        options = ("--topologies", "gateway,mesh", "--rounds", 10, "--json")
        measured = json.loads(run_lab(unique_lab(home), "bench", "topologies", *options, within_s=600).stdout)
        contents["bench"] = ([], read_benches(Path(measured["run_dir"])))
    for kind in kinds:
        write_report(contents[kind][0], home / f"{kind}.html", contents[kind][1])
    return {kind: (home / f"{kind}.html").as_uri() for kind in kinds}


def with_a_kill(lab: Lab) -> Path:
    """Runs of three callers, while one's sidecar is killed and started again; returns their folder."""
    loads = [LoadOptions(topology="mesh", caller=each, **LOAD) for each in ("homepage", "search", "playback")]
    seen: dict[str, Progress] = {}
    with ThreadPoolExecutor(1) as pool:
        runs = pool.submit(lab.load_parallel, loads, progress=seen.update)
        eventually("load", lambda: len(seen) == 3 and all(each.ok > 100 for each in seen.values()), within=WITHIN)
        with lab.faults.injected("kill", "homepage-sidecar"):
            eventually("failures", lambda: seen["mesh-homepage"].failed > 50, within=WITHIN)
        return runs.result().folder


def take(page: Page, show: Callable[[], object], folder: Path, name: str) -> Iterator[str]:
    """Writes the pictures of one page; yields what axe objects to."""
    for width, height in SIZES:
        for scheme in ("light", "dark"):
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            features = [{"name": "prefers-color-scheme", "value": scheme}]
            page.call("Emulation.setEmulatedMedia", features=features, media="")
            show()
            await_true(page, _DRAWN)
            image = page.call("Page.captureScreenshot", format="webp", quality=QUALITY)["data"]
            picture = f"{name}-{width}-{scheme}"
            (folder / f"{picture}.webp").write_bytes(base64.b64decode(image))
            # Of what is folded, axe knows neither that nobody sees it nor where it would be.
            page.evaluate(_FOLDED + ".forEach(each => { each.open = true; each.dataset.folded = ''; })")
            await_true(page, _REACHED)
            for found in page.violations("minor", "moderate", "serious", "critical"):
                yield f"{picture}: {found}"
            page.evaluate("document.querySelectorAll('[data-folded]').forEach(each => { each.open = false; })")


def main(folder: Path, names: list[str]) -> int:
    """Takes all pictures; returns the exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    with TemporaryDirectory() as home, chromium() as page:
        reports = reported(Path(home), [each for each in KINDS if not names or f"report-{each}" in names])
        site = Path(home) / "site"
        pages: dict[str, Callable[[], AbstractContextManager[Callable[[], object]]]] = {
            "console": partial(console, page),
            **{f"report-{kind}": partial(file, page, reports[kind]) for kind in reports},
            "docs": partial(file, page, (site / "html" / "index.html").as_uri()),
        }
        for name, open_ in pages.items():
            if not names or name in names:
                if name == "docs":
                    built_in(site)
                with open_() as show:
                    found += take(page, show, folder, name)
    sys.stdout.writelines(f"{each}\n" for each in found)
    return bool(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("name", nargs="*", help="page, e.g. console; all by default")
    given = parser.parse_args()
    sys.exit(main(given.folder, given.name))
