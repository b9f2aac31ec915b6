"""Executes a rollout: publishes a step, drives load, judges the evidence, continues or rolls back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError, StaleRevisionError
from lab.history import UNSENT, read_parquet
from lab.ops.roll.conditions import Evidence, Figures, Judgement, Standing
from lab.ops.roll.plan import ALL, RollPlan, plan_roll
from lab.routing.compiled import Router
from lab.routing.keys import routing_key
from lab.routing.schema import CONTEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from lab.client.admin import AdminClient
    from lab.history import Record
    from lab.load.progress import Progress
    from lab.ops.roll.conditions import Condition
    from lab.ops.roll.interrupts import InterruptHandler
    from lab.runs import LoadOptions, RunResult

PROBE_S = 10.0
"""Seconds between judgements of a step, so that a bad step ends before its hold does."""
MAX_HOLDS = 5
"""A step with too few requests is held at most this many times as long as asked."""
_NS_PER_MS = 1e6


class Outcome(StrEnum):
    """How a rollout ended."""

    COMPLETED = "completed"
    ABORTED = "aborted"  # rolled back: the previous route table is in force again
    STOPPED = "stopped"  # another publish took over, and stays in force


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOptions:
    """Options of a rollout.

    Attributes:
        model: model to roll out.
        to: target version.
        steps: traffic share of the new version at each step, in percent, rising to 100.
        hold_s: seconds for which each step is observed; longer if too few requests were seen.
        conditions: any of these aborts the rollout.
        use_case: change this use case only; all if None.
        force: continue even if a condition is unknown, for lack of requests.
        probe: load to drive meanwhile; an empty caller is chosen, use cases and duration are set by the rollout.
    """

    model: str
    to: str
    steps: tuple[int, ...]
    hold_s: float
    conditions: tuple[Condition, ...]
    use_case: str | None
    force: bool
    probe: LoadOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """One step and its evidence.

    Attributes:
        percent: traffic share of the new version.
        revision: that published it.
        share: measured share of the new version among the requests at the changed places, 0 to 1.
        judgements: of the conditions; empty if the step was cut off.
        runs: folders of the runs that observed it.
    """

    percent: int
    revision: int
    share: float = 0.0
    evidence: Evidence = field(default_factory=Evidence)
    judgements: tuple[Judgement, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollProgress:
    """Progress of a rollout.

    Attributes:
        percent: of the step.
        doing: current action.
        load: progress of the probe's load, while it runs.
        result: of the step, once it is judged.
    """

    percent: int
    doing: str
    load: Progress | None = None
    result: StepResult | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollResult:
    """Result of a rollout.

    Attributes:
        reason: why it did not complete; empty if it did.
        revision: the last that it published, or the one it started from.
        left_alone: rules that it did not change, with the reason.
    """

    model: str
    to: str
    outcome: Outcome
    reason: str
    revision: int
    steps: tuple[StepResult, ...]
    left_alone: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """As ``lab roll --json`` prints it."""
        return {
            **{name: getattr(self, name) for name in ("model", "to", "reason", "revision")},
            "outcome": str(self.outcome),
            "left_alone": list(self.left_alone),
            "steps": [
                {
                    "percent": step.percent,
                    "revision": step.revision,
                    "share": step.share,
                    "new": _figures(step.evidence.new),
                    "old": _figures(step.evidence.old),
                    "misroutes": step.evidence.misroutes,
                    "verdicts": [asdict(each) for each in step.judgements],
                    "runs": list(step.runs),
                }
                for step in self.steps
            ],
        }


class _Abort(Exception):  # noqa: N818 (control flow, not an error)
    """The rollout must be rolled back; the text says why."""


def execute(
    options: RollOptions,
    *,
    admin: AdminClient,
    author: str,
    callers: Collection[str],
    load: Callable[[LoadOptions, Callable[[Progress], None]], RunResult],
    interrupts: InterruptHandler,
    progress: Callable[[RollProgress], None],
) -> RollResult:
    """Executes a rollout, and rolls it back if a condition is met, it fails, or it is interrupted.

    The caller has entered ``interrupts``, which report Ctrl-C; ``callers`` are identities to drive load with.

    Raises:
        InputError: the options do not fit the route table in force; nothing was published.
    """
    before = admin.revision()
    document = before.document or {}
    plan = plan_roll(document, model=options.model, to=options.to, steps=options.steps, use_case=options.use_case)
    _check_is_served(document, plan, {each.cluster for each in admin.status().replicas})
    probe = _probe(options, plan, callers)
    roll = _Roll(options, plan, document, before.revision, admin, author, probe, load, interrupts, progress)
    return roll.run()


@dataclass(slots=True)
class _Roll:
    """A rollout under way; ``revision`` is the last that it published, at first the one it started from."""

    options: RollOptions
    plan: RollPlan
    document: dict[str, Any]
    revision: int
    admin: AdminClient
    author: str
    probe: LoadOptions
    load: Callable[[LoadOptions, Callable[[Progress], None]], RunResult]
    interrupts: InterruptHandler
    progress: Callable[[RollProgress], None]
    steps: list[StepResult] = field(default_factory=list)
    _old: Figures = field(default_factory=Figures)
    _runs: int = 0

    def run(self) -> RollResult:
        first = self.revision
        try:
            if self.plan.steps[0] == ALL:
                self._old = self._probe_once(0).old  # at 100 % no old version is left to compare with
            for percent in self.plan.steps:
                self._step(percent)
        except StaleRevisionError as error:
            return self._result(Outcome.STOPPED, f"another revision was published: {error}; nothing was overwritten")
        except (KeyboardInterrupt, _Abort, LabError) as error:
            # A driver that is still starting dies of the same Ctrl-C.
            reason = "interrupted" if self.interrupts.received else str(error)
            return self._roll_back(first, reason)
        return self._result(Outcome.COMPLETED, "")

    def _step(self, percent: int) -> None:
        self.interrupts.check()
        self.progress(RollProgress(percent=percent, doing="publishing"))
        use_cases = self.plan.use_cases(percent)
        sources = {name: (f"roll of {name}", json.dumps(each)) for name, each in use_cases.items()}
        with self.interrupts.shielded():
            self.revision = self.admin.publish_change(
                sources, author=self.author, comment=self.plan.comment(percent), expected_revision=self.revision
            )
        self.steps.append(StepResult(percent=percent, revision=self.revision))
        evidence, judgements = self._hold(percent)
        if evidence.old.latencies_ms:
            self._old = evidence.old
        self.progress(RollProgress(percent=percent, doing="judged", result=self.steps[-1]))
        met = [each for each in judgements if each.standing is Standing.MET]
        unknown = [each for each in judgements if each.standing is Standing.UNKNOWN]
        if met:
            raise _Abort(f"at {percent} %: {_listed(met)}")
        if unknown and not self.options.force:
            raise _Abort(
                f"at {percent} %: too few requests to say after {MAX_HOLDS * self.options.hold_s:g} s: "
                f"{_listed(unknown)}; give a higher --rate or a longer --hold, or --force"
            )

    def _hold(self, percent: int) -> tuple[Evidence, list[Judgement]]:
        """Observes a step until no condition is unknown, for one hold at least and :data:`MAX_HOLDS` holds at most."""
        evidence = Evidence()
        judgements: list[Judgement] = []
        observed_s = 0.0
        while observed_s < MAX_HOLDS * self.options.hold_s:
            more = self._probe_once(percent)
            observed_s += min(PROBE_S, self.options.hold_s)
            evidence = Evidence(
                evidence.new.with_more(more.new),
                evidence.old.with_more(more.old),
                _sum(evidence.misroutes, more.misroutes),
            )
            # At 100 % the old version gets no traffic: compare with the previous step.
            compared = evidence if percent != ALL else replace(evidence, old=self._old)
            judgements = [condition.judge(compared) for condition in self.options.conditions]
            requests = evidence.new.requests + evidence.old.requests
            self.steps[-1] = replace(
                self.steps[-1],
                evidence=compared,
                share=evidence.new.requests / requests if requests else 0.0,
                judgements=tuple(judgements),
            )
            standings = {each.standing for each in judgements}
            if Standing.MET in standings:
                break
            if observed_s >= self.options.hold_s and Standing.UNKNOWN not in standings:
                break
        return evidence, judgements

    def _probe_once(self, percent: int) -> Evidence:
        """Drives load once; returns the evidence on the requests at the changed places."""
        self.interrupts.check()
        self._runs += 1
        duration_s = min(PROBE_S, self.options.hold_s)
        options = replace(self.probe, duration_s=duration_s, seed=self.probe.seed + self._runs)
        self.progress(RollProgress(percent=percent, doing="driving load"))
        result = self.load(
            options, lambda load: self.progress(RollProgress(percent=percent, doing="driving load", load=load))
        )
        self.interrupts.check()
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], runs=(*self.steps[-1].runs, str(result.folder)))
        table = self.document if percent == 0 else self._document_at(percent)
        new, old = figures(read_parquet(result.folder / "history.parquet"), Router.of_document(table), self.plan)
        routing = next(each for each in result.verdicts if each.checker == "routing")
        return Evidence(new, old, None if routing.outcome == "unknown" else result.misrouted)

    def _document_at(self, percent: int) -> dict[str, Any]:
        return {**self.document, "use_cases": {**self.document["use_cases"], **self.plan.use_cases(percent)}}

    def _roll_back(self, first: int, reason: str) -> RollResult:
        if self.revision == first:
            return self._result(Outcome.ABORTED, f"{reason}; nothing was published")
        comment = f"roll {self.plan.model} to {self.plan.to} aborted: {reason}"
        with self.interrupts.shielded():
            self.progress(RollProgress(percent=0, doing=f"rolling back: {reason}"))
            try:
                self.revision = self.admin.rollback(
                    first, author=self.author, comment=comment, expected_revision=self.revision
                )
            except StaleRevisionError as error:
                return self._result(
                    Outcome.STOPPED, f"{reason}; not rolled back, another revision was published: {error}"
                )
        return self._result(Outcome.ABORTED, reason)

    def _result(self, outcome: Outcome, reason: str) -> RollResult:
        return RollResult(
            model=self.plan.model,
            to=self.plan.to,
            outcome=outcome,
            reason=reason,
            revision=self.revision,
            steps=tuple(self.steps),
            left_alone=self.plan.left_alone,
        )


def figures(records: Iterable[Record], router: Router, plan: RollPlan) -> tuple[Figures, Figures]:
    """Figures of the new version and of the old ones, for the requests that the rules sent to each.

    The router says which version a request was for, since a failed one does not. An answer from a fallback, or the
    caller's own default, counts as a failure of the chosen version.
    """
    new_key = routing_key(plan.model, plan.to)
    old_keys = {routing_key(*reference.split("@")) for reference in plan.old}
    counts: dict[bool, list[float]] = {True: [], False: []}
    errors = {True: 0, False: 0}
    for record in records:
        if record.status == UNSENT:
            continue
        rules = plan.rules_of(record.use_case)
        if not rules:
            continue
        context = {name: getattr(record, name) for name in CONTEXT_FIELDS}
        choice = router.resolve(record.use_case, context)
        is_new = choice.routing_key == new_key
        if choice.rule not in rules or not (is_new or choice.routing_key in old_keys):
            continue
        if record.status == "OK" and record.source == "model":
            counts[is_new].append((record.done_ns - record.intended_ns) / _NS_PER_MS)
        else:
            errors[is_new] += 1
    new, old = (Figures(len(counts[each]) + errors[each], errors[each], sorted(counts[each])) for each in (True, False))
    return new, old


def _probe(options: RollOptions, plan: RollPlan, callers: Collection[str]) -> LoadOptions:
    """The load to drive: as the named caller, else as the one that may call most of the changed use cases."""
    asks = {caller: [name for name, each in plan.before.items() if caller in each["callers"]] for caller in callers}
    caller = options.probe.caller or max(asks, key=lambda each: len(asks[each]), default="")
    if not asks.get(caller):
        raise InputError(
            f"--caller: {caller or 'no caller of this lab'} may call none of the use cases that are rolled "
            f"({', '.join(plan.before)}), so there would be no evidence"
        )
    return replace(options.probe, caller=caller, use_cases=tuple(asks[caller]))


def _check_is_served(document: dict[str, Any], plan: RollPlan, clusters: Collection[str]) -> None:
    cluster = document["models"][plan.model]["versions"][plan.to]["cluster"]
    if cluster not in clusters:
        raise InputError(f"--to: {plan.target} is to run on {cluster}, which has no replica: start some, or move it")


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _listed(judgements: Iterable[Judgement]) -> str:
    return ", ".join(f"{each.condition} ({each.because})" for each in judgements)


def _figures(figures: Figures) -> dict[str, float]:
    return {"requests": figures.requests, "errors": figures.errors, "p99_ms": figures.p99_ms}
