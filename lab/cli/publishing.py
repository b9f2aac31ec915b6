"""Shows a publish: its phases while they run, and then when each node acknowledged."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table

from lab.cli.output import console, print_json, progress_console, say, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lab.client.admin_values import Acknowledgement, PublishProgress, Step, Waiting

_NS_PER_MS = 1e6
_PHASES = ("stored", "loaded", "endpoints", "converged")


@dataclass(slots=True)
class PublishView:
    """The progress of a publish so far.

    Attributes:
        steps: phases reached, in order.
        waiting: phase waited for, and the progress within it.
        acknowledgements: of the nodes, once they have converged.
    """

    steps: list[Step] = field(default_factory=list)
    waiting: tuple[str, Waiting] | None = None
    acknowledgements: tuple[Acknowledgement, ...] = ()
    revision: int = 0
    called_ns: int = 0

    def take(self, progress: PublishProgress) -> None:
        """Takes the next progress."""
        self.revision, self.called_ns = progress.revision, progress.called_ns
        if progress.waiting is not None:
            self.waiting = (progress.step.phase, progress.waiting)
            return
        self.waiting = None
        self.steps.append(progress.step)
        self.acknowledgements = progress.acknowledgements or self.acknowledgements

    def since_call_ms(self, at_ns: int) -> float:
        """Time since the publish call arrived, ms."""
        return (at_ns - self.called_ns) / _NS_PER_MS

    def to_document(self) -> dict[str, object]:
        """As ``--json`` prints it; times in ms."""
        return {
            "revision": self.revision,
            "phases": [
                {"phase": step.phase, "ms": self.since_call_ms(step.at_ns), "detail": step.detail}
                for step in self.steps
            ],
            "nodes": [
                {
                    "node": each.node,
                    "role": each.role,
                    "since_sent_ms": (each.at_ns - each.sent_ns) / _NS_PER_MS,
                    "since_call_ms": self.since_call_ms(each.at_ns),
                }
                for each in self.acknowledgements
            ],
        }


@contextmanager
def shown(*, as_json: bool) -> Iterator[Callable[[PublishProgress], None]]:
    """Shows a publish while it runs, live on a terminal, line by line elsewhere, and then when each node acknowledged.

    Yields a function that takes its progress.
    """
    view = PublishView()
    if progress_console.is_terminal:
        with Live(console=progress_console, get_renderable=lambda: _phases(view), refresh_per_second=10) as live:
            yield view.take
            live.refresh()
    else:
        yield _line_by_line(view)
    if as_json:
        print_json(view.to_document())
    else:
        _show(view)


def _line_by_line(view: PublishView) -> Callable[[PublishProgress], None]:
    last_line = ""

    def take(progress: PublishProgress) -> None:
        nonlocal last_line
        view.take(progress)
        step = progress.step
        since = f"{view.since_call_ms(step.at_ns):8.1f} ms {step.detail}"
        state = f"waiting: {_progress(progress.waiting)}" if progress.waiting else since
        line = f"revision {progress.revision}: {step.phase:<10} {state}"
        if line != last_line:
            say(line)
            last_line = line

    return take


def _show(view: PublishView) -> None:
    rows = [
        (
            each.node,
            each.role,
            f"{(each.at_ns - each.sent_ns) / _NS_PER_MS:.1f}",
            f"{view.since_call_ms(each.at_ns):.1f}",
        )
        for each in view.acknowledgements
    ]
    if rows:
        headings = ("node", "role", "ms since sent", "ms since call")
        console.print(table(headings, rows, right=headings[2:]))
    console.print(f"revision {view.revision} is in force")


def _phases(view: PublishView) -> Table:
    result = Table.grid(padding=(0, 1))
    reached = {step.phase: step for step in view.steps}
    waiting_phase, waiting = view.waiting or ("", None)
    failed = reached.get("failed")
    for phase in (*_PHASES, *(["failed"] if failed else [])):
        step = reached.get(phase)
        if step is not None:
            mark = "[red]✗[/red]" if phase == "failed" else "[green]✓[/green]"
            result.add_row(mark, phase, f"{view.since_call_ms(step.at_ns):.1f} ms", f"[dim]{step.detail}[/dim]")
        elif failed is None and (phase == waiting_phase or phase == _next(reached)):
            result.add_row(Spinner("dots"), phase, "", f"[dim]{_progress(waiting) if waiting else ''}[/dim]")
        else:
            result.add_row(" ", f"[dim]{phase}[/dim]", "", "")
    return result


def _next(reached: dict[str, Step]) -> str:
    return next((phase for phase in _PHASES if phase not in reached), "")


def _progress(waiting: Waiting) -> str:
    missing = ", ".join(waiting.waiting_for[:3]) + (" …" if len(waiting.waiting_for) > 3 else "")  # noqa: PLR2004 (a line)
    return f"{waiting.done} of {waiting.total}; {missing}"
