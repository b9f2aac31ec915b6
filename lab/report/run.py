"""Everything that a report shows of one run, read from its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.checkers import Claim, Outcome
from lab.history import UNSENT, Columns
from lab.load.summary import OK
from lab.measure.findings import GROUND
from lab.measure.latency import NS_PER_MS
from lab.measure.single_run_intervals import Figure, quantiles, share
from lab.report.palette import SERIES, style_of, topology_style
from lab.routing.keys import routing_key
from lab.routing.shards import clusters_of
from lab.routing.uses import keys_named
from lab.runs import RunResult, judge
from lab.runs.folder import RunFolder

if TYPE_CHECKING:
    import numpy.typing as npt

    from lab.client.admin_values import RevisionInfo
    from lab.load.plan import LoadPlan
    from lab.runs.events import Event

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
"""The percentiles with intervals: name → share."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The rollout of a revision to the nodes.

    Attributes:
        from_ns: when it began, Unix nanoseconds.
        until_ns: when all nodes had acknowledged it or were rolled back; None if neither happened during the run.
        failed: whether the nodes were rolled back.
        comment: the publisher's, e.g. the step of a roll.
    """

    revision: int
    from_ns: int
    until_ns: int | None
    failed: bool
    comment: str = ""


@dataclass(frozen=True, kw_only=True)  # no slots: cached properties need a dict
class ReportedRun:
    """One run of a report.

    Attributes:
        number: its place in the report, from 1, and part of its label.
        among_callers: whether the report has runs of several callers, so that labels name the caller.
        hue: its place among what runs differ in, from 0: callers if there are several, else nothing.
        again: number of earlier runs of that colour: these differ in their dashes.
        result: figures and verdicts.
        plan: what the driver was to send.
        history: the columns that reports need.
        start_ns: when the schedule started, Unix nanoseconds; 0 if there is no record.
        rollouts: of all revisions, including those before and after the run.
        events: operations on units, faults and steps during the run.
        versions: of software and machine, by name.
        security: how connections were secured; empty if unknown.
        may_call: use cases that the caller might call, by the last route table of the run.
        document: that table; empty if the run has none.
    """

    number: int
    among_callers: bool = False
    hue: int = 0
    again: int = 0
    result: RunResult
    plan: LoadPlan
    history: Columns
    start_ns: int
    rollouts: Sequence[Rollout]
    events: Sequence[Event]
    versions: Mapping[str, str]
    security: str
    may_call: Sequence[str] = ()
    document: Mapping[str, Any] = field(default_factory=dict)

    def may_reach(self, target: str) -> set[str]:
        """Callers for which a replica, or a cluster, may answer by the last route table of the run."""
        keys = {
            routing_key(model, version)
            for model, entry in self.document.get("models", {}).items()
            for version, placed in entry["versions"].items()
            if {target, target.rpartition("-")[0]} & {*clusters_of(placed["cluster"]).values()}
        }
        entries = self.document.get("use_cases", {}).values()
        return {caller for each in entries if keys & keys_named(each) for caller in each["callers"]}

    @property
    def label(self) -> str:
        """Its name in charts and tables."""
        return f"{self.number} {self.plan.topology}{f', {self.plan.caller}' if self.among_callers else ''}"

    @property
    def colour(self) -> str:
        """The style of its topology, or of its caller if the report has several; see :mod:`lab.report.palette`."""
        return style_of(self.hue + 1) if self.among_callers else topology_style(self.plan.topology)

    @property
    def style(self) -> str:
        """The same, dashed if an earlier run has that colour; for charts of several runs."""
        return f"{self.colour} again-{(self.again - 1) % 2 + 1}" if self.again else self.colour

    @property
    def folder(self) -> str:
        """The lab's name and the run's folder: ``default/20261127T094000Z``."""
        path = self.result.folder
        return f"{path.parent.name}/{path.name}"

    @property
    def until_ns(self) -> int:
        """When the last request was due, Unix nanoseconds; 0 if there is no record."""
        return int(self.history.numbers("intended_ns").max()) if len(self.history) else 0

    @property
    def origin(self) -> str:
        """Where its figures are from, for captions of charts."""
        return origins([self])

    @property
    def reasons(self) -> list[str]:
        """One from each checker that does not find it valid."""
        return [f"{each.checker}: {each.summary}" for each in self.result.verdicts if each.outcome != "valid"]

    @property
    def is_timed(self) -> bool:
        """Whether its latencies can be trusted."""
        return self.result.claims[Claim.TIMING] is Outcome.VALID

    @property
    def card(self) -> str:
        """The machine in one line."""
        return ", ".join(f"{name} {self.versions[name]}" for name in GROUND if name in self.versions)

    @cached_property
    def is_sent(self) -> npt.NDArray[np.bool_]:
        """For each row of the history, whether its request was sent."""
        return ~self.history.is_word("status", UNSENT)

    @cached_property
    def is_ok(self) -> npt.NDArray[np.bool_]:
        """For each row of the history, whether its request was answered."""
        return self.history.is_word("status", OK)

    @cached_property
    def sent(self) -> int:
        """Number of requests that were sent."""
        return int(self.is_sent.sum())

    @cached_property
    def rows_sent(self) -> npt.NDArray[np.int64]:
        """Rows of the requests that were sent, by due time."""
        rows = np.flatnonzero(self.is_sent)
        in_order: npt.NDArray[np.int64] = rows[np.argsort(self.history.numbers("intended_ns")[rows], kind="stable")]
        return in_order

    @cached_property
    def rows_timed(self) -> npt.NDArray[np.int64]:
        """Those of :attr:`rows_sent` that have a latency: answered, and with a single response.

        How soon a request fails says nothing of how soon one is answered, and how long a stream takes depends on its
        items.
        """
        rows = self.rows_sent[self.is_ok[self.rows_sent]]
        if "streamed" not in self.history.table.column_names:
            return rows
        timed: npt.NDArray[np.int64] = rows[self.history.numbers("streamed")[rows] == 0]
        return timed

    @cached_property
    def latencies_ms(self) -> npt.NDArray[np.float64]:
        """Latencies of :attr:`rows_timed` from the due time, ms, in the same order."""
        took = self.history.numbers("done_ns") - self.history.numbers("intended_ns")
        in_order: npt.NDArray[np.float64] = np.maximum(took[self.rows_timed], 0) / NS_PER_MS
        return in_order

    @cached_property
    def figures(self) -> Mapping[str, Figure]:
        """Percentiles of these latencies by name, ms; empty if nothing was answered."""
        if not self.latencies_ms.size:
            return {}
        return dict(zip(PERCENTILES, quantiles(self.latencies_ms, tuple(PERCENTILES.values())), strict=True))

    @cached_property
    def failed(self) -> Figure | None:
        """The share of requests sent that got no answer; None if nothing was sent."""
        return share(~self.is_ok[self.rows_sent]) if self.sent else None


def origins(runs: Sequence[ReportedRun]) -> str:
    """Where figures are from: each run with its n, and each machine once."""
    by_card: dict[str, list[str]] = {}
    for run in runs:
        by_card.setdefault(run.card, []).append(f"{run.label}, {run.folder}, n = {run.sent:,}")
    return "; ".join(", ".join(part for part in ("; ".join(some), card) if part) for card, some in by_card.items())


def read_runs(folders: Iterable[Path]) -> list[ReportedRun]:
    """Reads runs, and numbers them.

    Raises:
        RunError: something is missing or cannot be read.
    """
    runs: list[ReportedRun] = []
    for number, folder in enumerate(folders, 1):
        runs.append(read_run(folder, number=number))
    callers = list(dict.fromkeys(each.plan.caller for each in runs))
    coloured = [
        replace(each, among_callers=len(callers) > 1, hue=callers.index(each.plan.caller) % len(SERIES))
        for each in runs
    ]
    return [
        replace(each, again=sum(other.colour == each.colour for other in coloured[:number]))
        for number, each in enumerate(coloured)
    ]


def read_run(folder: Path, *, number: int = 1) -> ReportedRun:
    """Reads a run's folder, and judges the run by it: a verdict that somebody has written down proves nothing.

    Raises:
        RunError: something is missing or cannot be read.
    """
    folder = folder.resolve()  # `latest` will be another run
    run = RunFolder(folder)
    plan, revisions, history = run.plan, run.revisions, run.columns
    document = _last_table(revisions)
    with run.intact():
        return ReportedRun(
            number=number,
            result=judge(folder, history.records()),
            plan=plan,
            history=history,
            start_ns=_start_ns(plan, history),
            rollouts=tuple(_rollouts(revisions)),
            events=run.events,
            versions=run.versions,
            security=str(run.spec.get("security", {}).get("mode", "")),
            document=document,
            may_call=[name for name, each in document.get("use_cases", {}).items() if plan.caller in each["callers"]],
        )


def _start_ns(plan: LoadPlan, history: Columns) -> int:
    if not len(history):
        return 0
    if not plan.engine.scheduled:
        return int(history.numbers("intended_ns").min())
    row = int(history.numbers("sequence").argmin())
    sequence = int(history.numbers("sequence")[row])
    first = next(islice(plan.arrivals.arrivals(), sequence, None), None)
    return int(history.numbers("intended_ns")[row]) - (first.offset_ns if first else 0)


def _rollouts(revisions: Iterable[RevisionInfo]) -> Iterator[Rollout]:
    for each in revisions:
        at = each.times
        if "loaded" in at:  # else it never went out
            yield Rollout(
                each.revision, at["loaded"], at.get("failed", at.get("converged")), "failed" in at, each.comment
            )


def _last_table(revisions: Sequence[RevisionInfo]) -> Mapping[str, Any]:
    latest = max(revisions, key=lambda each: each.revision, default=None)
    return latest.document or {} if latest else {}
