"""``python -m tests.plugins.console.frames --seconds 20 --rate 500``: the console's frames a second beside a large lab.

Brings up a lab of 30 callers, each with its sidecar, and 600 clusters on one model host; all callers send by the mesh.
The claim: the page stays above 30 frames a second, its server uses less than 20 % of a core, and from the middle third
of the time to the last one neither the server's memory nor the tab's grows by more than 10 % and 2 MB.

A busy machine can hide frames but not add any, so it puts only a failure in doubt; a load below its rate puts both in
doubt, but no growth. Less than half an hour is too short to judge memory by. Exit status 0 if the claim holds, 1 if it
does not, 2 if that is undecided.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from lab.measure.findings import State
from lab.ops import headroom
from lab.plugins.bench.harness.environment import cpu_seconds
from lab.plugins.bench.harness.metronome import metronome
from lab.plugins.bench.scale.scale_lab import ScaleLab, open_scale_lab
from lab.plugins.bench.scale.traffic import TrafficRun
from lab.plugins.console.traffic import KEPT_TICKS, TICK_NS
from lab.runs.folder import TOGETHER, create, new_run_folder
from lab.runs.version import lab_version
from lab.waiting import eventually
from tests.browser import Page, chromium
from tests.lab_command import LAB
from tests.tools import run_tool

CALLERS, CLUSTERS = 30, 600
LEAST_FRAMES, MOST_OF_A_CORE = 30.0, 0.2  # a second; of the server
MOST_GROWTH, MOST_GROWTH_MB = 1.1, 2.0
_LONG_S, _SAMPLE_S = 3 * KEPT_TICKS * TICK_NS / 1e9, 5.0  # the middle third begins when the page forgets the oldest
_LEAST_OF_RATE = 0.9
_BUSY_BROWSER = 0.8  # cores: one that has fewer frames with less was kept from the processor
_WARM = timedelta(seconds=60)
_GRACE_S = 30
_USE_CASES = 2 * CLUSTERS
_COUNT = """window.counted = null; (() => {
  let frames = 0, longest = 0, first = null, last = null;
  const step = (now) => {
    first ??= now;
    if (last !== null) { frames += 1; longest = Math.max(longest, now - last); }
    last = now;
    if (now - first < %f) requestAnimationFrame(step);
    else window.counted = {frames, seconds: (now - first) / 1000, longest_gap_ms: longest};
  };
  requestAnimationFrame(step);
})()"""
_ANSWERED = "Number(document.querySelector('[data-topology=mesh] [data-figure=answered]')?.textContent)"
_EDGES = "document.querySelectorAll('[data-topology=mesh] .busy').length"


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes at one moment, and the number of the document's nodes.

    Attributes:
        server_mb: resident, of the console's server.
        tab_mb: that the page's scripts use, after garbage was collected.
    """

    server_mb: float
    tab_mb: float
    nodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What was measured.

    Attributes:
        frames: that the page could draw in ``seconds``.
        longest_gap_ms: between two of them.
        server_cores: that the console's server used, and ``browser_cores`` all processes of the browser.
        rate: of all callers, requests per second, and ``answered_rate`` those that were answered, as the page shows.
        edges: that had traffic at the end.
        memory: at equal intervals.
        doubt: why the machine was too busy; empty if it was not.
    """

    frames: int
    seconds: float
    longest_gap_ms: float
    server_cores: float
    browser_cores: float
    rate: float
    answered_rate: float
    edges: int
    memory: Sequence[Memory] = ()
    doubt: str = ""

    @property
    def per_second(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds


def growth(seen: Frames) -> dict[str, tuple[float, float]]:
    """Medians of the middle third and of the last one, of each kind of memory."""
    third = len(seen.memory) // 3
    parts = seen.memory[third : 2 * third], seen.memory[2 * third :]
    names = ("server_mb", "tab_mb", "nodes") if third else ()
    return {name: tuple(median(getattr(each, name) for each in part) for part in parts) for name in names}


def _has_grown(before: float, after: float) -> bool:
    return after > MOST_GROWTH * before and after > before + MOST_GROWTH_MB


def verdict(seen: Frames) -> tuple[State, str]:
    """Whether the claim holds, and if it does not for its memory, or is undecided, why."""
    grown = [name for name, ends in growth(seen).items() if _has_grown(*ends)] if seen.seconds >= _LONG_S else []
    if grown:
        return State.FAILS, f"memory grows: {', '.join(grown)}"
    if seen.answered_rate < _LEAST_OF_RATE * seen.rate:
        return State.UNDECIDED, f"only {seen.answered_rate:.0f} of {seen.rate:.0f} requests a second were answered"
    if seen.per_second > LEAST_FRAMES and seen.server_cores < MOST_OF_A_CORE:
        return State.HOLDS, ""
    if seen.doubt:
        return State.UNDECIDED, seen.doubt
    if seen.server_cores < MOST_OF_A_CORE and seen.browser_cores < _BUSY_BROWSER:
        return State.UNDECIDED, f"the browser used only {seen.browser_cores:.2f} cores: it waited for the processor"
    return State.FAILS, ""


def in_words(seen: Frames, document: Mapping[str, Any]) -> str:
    """The result in one line."""
    why = f" ({document['why']})" if document["why"] else ""
    memory = ", ".join(f"{name} {before:.4g} → {after:.4g}" for name, (before, after) in growth(seen).items())
    return (
        f"{document['verdict']}{why}: {seen.per_second:.1f} frames/s (n = {seen.frames}, {seen.seconds:.0f} s), "
        f"longest gap {seen.longest_gap_ms:.0f} ms, server {100 * seen.server_cores:.1f} % of a core, "
        f"browser {seen.browser_cores:.2f} cores, {seen.answered_rate:.0f} of {seen.rate:.0f} requests/s answered, "
        f"{CALLERS} callers, {CLUSTERS} clusters, {seen.edges} edges with traffic; {memory}; {document['commit']}, "
        f"{document['cores']} cores, load average {document['load_average']:.1f}"
    )


@contextmanager
def _console(up: ScaleLab) -> Iterator[tuple[int, str]]:
    """The process of ``lab console`` and its address."""
    command = [str(LAB), "console", "--json", "--no-browser", "--name", up.lab.name]
    home = {"LAB_HOME": str(up.lab.folder.parent.parent)}
    # In its own session, as a terminal's Ctrl-C would reach it beside the SIGTERM below.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **home}, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None
            said = ""
            while not said.endswith("}\n"):
                line = server.stdout.readline()
                assert line, f"lab console ended with status {server.wait()}"
                said += line
            yield server.pid, Path(json.loads(said)["file"]).as_uri()
        finally:
            server.terminate()


def _start_load(up: ScaleLab, *, rate: float, seconds: float) -> None:
    """Starts load of all callers, where the console finds runs; it ends with the lab."""
    folder = new_run_folder(up.lab.runs)
    create(folder)
    (folder / TOGETHER).write_text(json.dumps(sorted(up.state.plan.callers)))
    TrafficRun(up, rate=rate, seconds=seconds, seed=1, folder=folder)


def _browser_cpu_s(page: Page) -> dict[int, float]:
    """Processor seconds of each process of the browser."""
    browser = psutil.Process(page.pid)
    found = {}
    for each in (browser, *browser.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            found[each.pid] = cpu_seconds(each.pid)
    return found


def _memory(page: Page, server: int) -> Memory:
    page.call("HeapProfiler.collectGarbage")
    heap, counts = page.call("Runtime.getHeapUsage"), page.call("Memory.getDOMCounters")
    return Memory(psutil.Process(server).memory_info().rss / 1e6, heap["usedSize"] / 1e6, counts["nodes"])


def measure(up: ScaleLab, *, seconds: float, rate: float, picture: Path | None) -> Frames:
    """Counts frames beside a lab that is up."""
    with up.admin() as admin:
        admin.publish([("scale.json", json.dumps(up.deployment.document))], author="frames", comment="all of it")
    with _console(up) as (server, address), chromium() as page:
        _start_load(up, rate=rate, seconds=seconds + _WARM.total_seconds())
        page.resize(1920)
        page.call("Page.navigate", url=address)

        def answered() -> float:
            return float(page.evaluate(_ANSWERED) or 0)

        eventually("the page shows answers", answered, within=_WARM, until=lambda count: count > rate)
        up.say(f"counting frames for {seconds:g} s")
        with metronome() as beats:
            before, from_s = (cpu_seconds(server), _browser_cpu_s(page), answered()), time.monotonic()
            page.evaluate(_COUNT % (1000 * seconds))
            memory: list[Memory] = []

            def look() -> Any:
                if time.monotonic() - from_s > _SAMPLE_S * len(memory):
                    memory.append(_memory(page, server))
                return page.evaluate("window.counted")

            counted = eventually(
                "frames are counted",
                look,
                within=timedelta(seconds=seconds + _GRACE_S),
            )
            after, took_s = (cpu_seconds(server), _browser_cpu_s(page), answered()), time.monotonic() - from_s
        if picture is not None:
            page.picture(picture)
        return Frames(
            **counted,
            server_cores=(after[0] - before[0]) / took_s,
            browser_cores=sum(used - before[1].get(pid, 0.0) for pid, used in after[1].items()) / took_s,
            rate=rate,
            answered_rate=(after[2] - before[2]) / took_s,
            edges=page.evaluate(_EDGES),
            memory=memory,
            doubt=beats.doubt,
        )


def main() -> int:
    """Measures in its own lab, and prints the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--name", default="frames")
    parser.add_argument("--picture", type=Path, help="file for a picture of the page at that size, PNG")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="frames-") as home,  # the load ends with the lab, and leaves half a run
        open_scale_lab(
            clusters=CLUSTERS,
            callers=CALLERS,
            use_cases=_USE_CASES,
            seed=1,
            say=_say,
            home=Path(home),
            name=chosen.name,
        ) as up,
    ):
        seen = measure(up, seconds=chosen.seconds, rate=chosen.rate, picture=chosen.picture)
        machine = headroom.measure()
    state, why = verdict(seen)
    document = {
        "verdict": str(state),
        "why": why,
        "frames_per_second": seen.per_second,
        **asdict(seen),
        "callers": CALLERS,
        "clusters": CLUSTERS,
        "commit": lab_version(),
        "cores": machine.cores,
        "load_average": machine.load,
    }
    print(json.dumps(document, indent=1) if chosen.json else in_words(seen, document))  # noqa: T201 (a command)
    return {State.HOLDS: 0, State.FAILS: 1, State.UNDECIDED: 2}[state]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (a command)


if __name__ == "__main__":
    sys.exit(run_tool(main))
