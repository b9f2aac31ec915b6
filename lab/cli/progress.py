"""The progress of a run: a live table on a terminal, a line a second elsewhere; both end with the result's figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.live import Live
from rich.text import Text

from lab.cli.output import progress_console, table
from lab.load.progress import Progress, combined

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lab.load.summary import RunSummary

_BAR, _SPARKS = 12, 12
_LEVELS = "▁▂▃▄▅▆▇█"
_FIGURES = ("done", "failed", "in flight", "rps", "p50 ms", "p99 ms")
_HEADINGS = ("caller", "", "left", *_FIGURES, "p50 so far")


class LoadProgress:
    """Takes the progress of one or more simultaneous runs, by name, and then their results."""

    def __init__(self) -> None:
        self.live: Live | None = None
        self._seen: dict[str, Progress] = {}
        self._p50_ms: dict[str, list[float]] = {}
        self._results: dict[str, RunSummary] = {}
        self._printed_s = -1

    def take(self, seen: Mapping[str, Progress]) -> None:
        """Shows the latest progress of each run."""
        for name, progress in seen.items():
            if progress.p50_ms and progress != self._seen.get(name):
                self._p50_ms.setdefault(name, []).append(progress.p50_ms)
            self._seen[name] = progress
        if self.live is not None:
            self.live.update(self.rendered())
            return
        whole = combined(self._seen.values())
        # The last report of a driver covers what is left of a second; the result follows it.
        if int(whole.elapsed_s) > self._printed_s and (whole.in_flight or whole.remaining_s != 0):
            self._printed_s = int(whole.elapsed_s)
            progress_console.print(_line(whole), markup=False)

    def finish(self, results: Mapping[str, RunSummary]) -> None:
        """Shows the figures of the results in place of the last seconds'."""
        self._results.update(results)
        if self.live is not None:
            self.live.update(self.rendered(), refresh=True)
            return
        for name, of in results.items():
            progress_console.print(f" ended  {_ended(of)}{f'  {name}' if len(results) > 1 else ''}", markup=False)

    def rendered(self) -> RenderableType:
        """The live table."""
        if not self._seen:
            return Text("starting the driver", "dim")
        rows = [self._row(name, progress) for name, progress in sorted(self._seen.items())]
        return table(_HEADINGS, rows, right=("left", *_FIGURES), optional=("in flight", "done", "p99 ms"))

    def _row(self, name: str, progress: Progress) -> tuple[object, ...]:
        sparks = Text(sparkline(self._p50_ms.get(name, [])), "cyan")
        if (of := self._results.get(name)) is not None:
            figures = (of.ok + of.failed, of.failed, 0, f"{of.achieved_rate:.1f}")
            return (name, bar(1.0), "ended", *figures, milliseconds(of.p50_ms), milliseconds(of.p99_ms), sparks)
        left_s = progress.remaining_s
        share = progress.elapsed_s / max(1e-9, progress.elapsed_s + left_s) if left_s is not None else 0.0
        left = "Ctrl-C" if left_s is None else f"{left_s:.0f} s" if left_s else "judging" if share else ""
        figures = (progress.done, progress.failed, progress.in_flight, f"{progress.rate:.1f}")
        p50, p99 = milliseconds(progress.p50_ms), milliseconds(progress.p99_ms)
        return (name, bar(share), left, *figures, p50, p99, sparks)


@contextmanager
def load_shown() -> Iterator[LoadProgress]:
    """Shows what the progress that it yields takes, until the body ends."""
    progress = LoadProgress()
    if not progress_console.is_terminal:
        yield progress
        return
    with Live(progress.rendered(), console=progress_console, refresh_per_second=4) as progress.live:
        yield progress


def milliseconds(latency_ms: float) -> str:
    """A latency in words; 0 is that of no request."""
    return f"{latency_ms:.2f}" if latency_ms else "–"


def bar(share: float) -> Text:
    """A bar of a fixed width for a share from 0 to 1."""
    full = round(_BAR * min(1.0, share))
    return Text.assemble(("━" * full, "green"), ("╌" * (_BAR - full), "dim"))


def sparkline(values: Sequence[float]) -> str:
    """The latest values as a line of bars, from 0 to the highest of them."""
    shown = values[-_SPARKS:]
    highest = max(shown, default=0.0)
    return "".join(_LEVELS[round((len(_LEVELS) - 1) * value / highest)] if highest else _LEVELS[0] for value in shown)


def _line(progress: Progress) -> str:
    return (
        f"{progress.elapsed_s:5.0f} s  {progress.rate:.1f} rps  "
        f"{progress.done} done, {progress.failed} failed, {progress.in_flight} in flight  "
        f"p50 {milliseconds(progress.p50_ms)} ms  p99 {milliseconds(progress.p99_ms)} ms  "
        + ("until Ctrl-C" if progress.remaining_s is None else f"{progress.remaining_s:.0f} s left")
    )


def _ended(of: RunSummary) -> str:
    return (
        f"{of.achieved_rate:.1f} rps  {of.ok + of.failed} done, {of.failed} failed  "
        f"p50 {milliseconds(of.p50_ms)} ms  p99 {milliseconds(of.p99_ms)} ms"
    )
