"""Shows a run's figures and verdicts, and ends the command with the status that they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.markup import escape
from rich.text import Text

from lab.checkers import Claim, Outcome, silent
from lab.cli.output import console, print_json, say, table
from lab.cli.progress import milliseconds
from lab.runs import ParallelResult, RunResult

if TYPE_CHECKING:
    from lab.load.summary import RunSummary

EXIT_STATUS = {Outcome.VALID: 0, Outcome.INVALID: 1, Outcome.UNKNOWN: 2}
_PLACES = ("use case", "rule", "default", "condition", "negation", "cell", "edge", "fallback", "override")
_TENANTS = ("tenant", "sent", "failed", "p50 ms", "p99 ms")
_RUNS = ("run", "right", "wrong", "failed", "unsent", "p50 ms", "p99 ms", "verdict")
_SHOWN_VIOLATIONS = 10  # of each checker
STYLES: Mapping[str, str] = {Outcome.VALID: "bold green", Outcome.INVALID: "bold red", Outcome.UNKNOWN: "bold yellow"}


def finish(result: RunResult | ParallelResult, *, as_json: bool, doubts: Sequence[str] = ()) -> NoReturn:
    """Prints a result, and why a reader cannot rely on it, and raises ``typer.Exit`` with the status."""
    if as_json:
        print_json({**result.to_document(), **({"doubts": list(doubts)} if doubts else {})})
    elif isinstance(result, ParallelResult):
        for each in result.runs:
            console.print(f"[bold]{escape(each.folder.name)}[/bold]")
            _show(each)
        rows = [_row(each) for each in result.runs]
        console.print(table(_RUNS, rows, right=_RUNS[1:-1], folds=_RUNS[:1], optional=("unsent",)))
        console.print(f"\nall together: [{STYLES[result.outcome]}]{result.outcome}[/]  {result.folder}")
    else:
        _show(result)
    for doubt in doubts:
        say(doubt)
    raise typer.Exit(EXIT_STATUS[result.outcome] or (EXIT_STATUS[Outcome.UNKNOWN] if doubts else 0))


def _show(result: RunResult) -> None:
    summary = result.summary
    failures = ", ".join(f"{count} {status}" for status, count in summary.by_status.items() if status != "OK")
    planned = "came due" if summary.offered is None else f"planned at {summary.offered:.1f} rps"
    console.print(
        f"{summary.planned} {planned}, achieved {summary.achieved_rate:.1f} rps: {result.counts}"
        + (f" ({failures})" if failures else "")
    )
    console.print(
        f"latency  p50 {milliseconds(summary.p50_ms)}  p90 {milliseconds(summary.p90_ms)}  "
        f"p99 {milliseconds(summary.p99_ms)}  p99.9 {milliseconds(summary.p999_ms)}  "
        f"max {milliseconds(summary.max_ms)} ms;  "
        f"schedule delay p99 {summary.schedule_delay_p99_ms:.2f} ms\n"
    )
    if (streams := summary.streams) is not None:
        console.print(
            f"streams  {streams.sent}, not in these: "
            f"first item p50 {milliseconds(streams.first_item_p50_ms)} ms from sending, "
            f"last item p50 {milliseconds(streams.p50_ms)}  p99 {milliseconds(streams.p99_ms)} ms\n"
        )
    if summary.by_tenant:
        console.print(table(_TENANTS, _tenant_rows(summary), right=_TENANTS[1:], folds=_TENANTS[:1]))
    rows = [
        (verdict.claim, verdict.checker, Text(verdict.outcome, STYLES[verdict.outcome]), verdict.summary)
        for verdict in sorted(result.verdicts, key=lambda each: list(Claim).index(each.claim))
    ]
    console.print(table(("claim", "checker", "verdict", "because"), rows, folds=("because",)))
    if quiet := silent(result.verdicts):
        lacks = "; ".join(f"{name}: {subject}" for name, subject in quiet.items())
        console.print(f"not judged, for lack of  {lacks}", markup=False)
    for verdict in result.verdicts:
        for violation in verdict.violations[:_SHOWN_VIOLATIONS]:
            which = f" #{violation.sequence}" if violation.sequence >= 0 else ""
            console.print(f"  {violation.checker}{which}: {violation.message}", markup=False)
        if len(verdict.violations) > _SHOWN_VIOLATIONS:
            more = len(verdict.violations) - _SHOWN_VIOLATIONS
            console.print(f"  {verdict.checker}: … and {more} more; all are in --json")
    if kinds := Counter(next((kind for kind in _PLACES if place.startswith(kind)), "version") for place in result.met):
        met = ", ".join(f"{kind}: {count}" for kind, count in kinds.items())
        console.print(f"\ncovered  {met}  (each by name in --json)", markup=False)
    console.print(f"\n{result.sentence}", markup=False)
    console.print(f"[{STYLES[result.outcome]}]{result.outcome}[/] by {', '.join(result.asked)}; {result.seal}")
    console.print(f"{result.folder}", markup=False)


def _row(result: RunResult) -> tuple[object, ...]:
    """One of several runs, in a line."""
    latencies = milliseconds(result.summary.p50_ms), milliseconds(result.summary.p99_ms)
    return (result.folder.name, *result.counts, *latencies, Text(result.outcome, STYLES[result.outcome]))


def _tenant_rows(summary: RunSummary) -> list[tuple[str, ...]]:
    return [
        (tenant or "(none)", str(of.sent), str(of.failed), milliseconds(of.p50_ms), milliseconds(of.p99_ms))
        for tenant, of in summary.by_tenant.items()
    ]
