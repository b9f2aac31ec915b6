"""Executes a rollout: publishes a step, drives load, judges the evidence, continues or rolls back.

A step is bad if a condition is met, or if a checker objects to what no condition judges.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError, StaleRevisionError
from lab.history import read_parquet
from lab.ops.roll.conditions import PATIENCE, Condition, Evidence, Figures, Judgement, Standing, enough
from lab.ops.roll.plan import ALL, RollPlan, plan_roll
from lab.ops.roll.probe import balanced, figures, is_drawn, objections, probe_load
from lab.routing.compiled import Router
from lab.routing.shards import clusters_of

if TYPE_CHECKING:
    from lab.client.admin import AdminClient
    from lab.client.admin_values import PublishProgress
    from lab.load.progress import Progress
    from lab.ops.roll.interrupts import InterruptHandler
    from lab.runs import LoadOptions, RunResult

PROBE_S = 10.0
"""Seconds between judgements of a step, so that a bad step ends before its hold does."""
_LEAST_S, _LEAST_RATE = 1.0, 20.0


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
        hold_s: seconds for which each step is observed at least; longer until there are enough requests.
        conditions: any of these aborts the rollout.
        use_case: change this use case only; all if None.
        force: continue even if a condition stays unknown.
        probe: load during the rollout; an empty caller is chosen, use cases and duration are set by the rollout.
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
        share: measured share of the new version, 0 to 1, among requests of users drawn from all at the changed places.
        drawn: number of those requests.
        judgements: of the conditions; empty if the step was cut off.
        runs: folders of the runs that observed it.
    """

    percent: int
    revision: int
    share: float = 0.0
    drawn: int = 0
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
        warning: that a node was left behind, if one was.
    """

    percent: int
    doing: str
    load: Progress | None = None
    result: StepResult | None = None
    warning: str = ""


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
                    "drawn": step.drawn,
                    "new": _figures(step.evidence.new),
                    "old": _figures((step.evidence.before or step.evidence).old),
                    "other": _figures(step.evidence.other),
                    "misroutes": step.evidence.misroutes,
                    "objections": list(step.evidence.objections),
                    "verdicts": [each.to_document() for each in step.judgements],
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
    probe = probe_load(options.probe, document, plan, callers)
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
    _before: Evidence = field(default_factory=Evidence)
    _runs: int = 0

    def run(self) -> RollResult:
        first = self.revision
        try:
            if self.plan.steps[0] == ALL:
                # At 100 % no old version is left to compare with.
                self._before = self._probe_once(0, min(PROBE_S, self.options.hold_s))[0]
                while self._lacking(ALL, self._before):
                    self._before = self._before.with_more(self._probe_once(0, _LEAST_S)[0])
            _check_probes(0, self._before)
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
                sources,
                author=self.author,
                comment=self.plan.comment(percent),
                expected_revision=self.revision,
                progress=lambda published: self._warn(percent, published),
            )
        self.steps.append(StepResult(percent=percent, revision=self.revision))
        judgements = self._hold(percent)
        self._before = self.steps[-1].evidence
        self.progress(RollProgress(percent=percent, doing="judged", result=self.steps[-1]))
        if met := [each for each in judgements if each.standing is Standing.MET]:
            raise _Abort(f"at {percent} %: {_listed(met)}")
        _check_probes(percent, self._before)
        unknown = [each for each in judgements if each.standing is Standing.UNKNOWN]
        if percent == ALL and (not_compared := [each for each in unknown if each.compares]):
            # Without an old version beside the new one, that the two differ is no reason to go back.
            unknown = [each for each in unknown if not each.compares]
            warning = f"not judged at {ALL} %: {_listed(not_compared)}"
            self.progress(RollProgress(percent=percent, doing="judged", warning=warning))
        if unknown and not self.options.force:
            raise _Abort(f"at {percent} %: undecided: {_listed(unknown)}; give a wider limit, or --force")

    def _warn(self, percent: int, published: PublishProgress) -> None:
        for each in published.left_behind:
            warning = f"{each.role} {each.node} is left behind: {each.error}"
            self.progress(RollProgress(percent=percent, doing="publishing", warning=warning))

    def _hold(self, percent: int) -> tuple[Judgement, ...]:
        """Observes a step for one hold at least, until no condition is unknown or more requests would not help."""
        hold_s, conditions = self.options.hold_s, self.options.conditions
        evidence = Evidence(before=self._before if percent == ALL else None)
        judgements: tuple[Judgement, ...] = ()
        needed = max((enough(each.share) for each in conditions), default=0)
        observed_s, drawn_new, drawn_old = 0.0, 0, 0
        while True:
            seen = evidence.new.requests
            # Half of the probe's requests are for the new version, if nothing is known yet.
            missing_s = max(0, needed - seen) / (seen / observed_s if seen else self.probe.rate / 2)
            doing = f"{seen} of {needed} requests to the new version"
            if seen >= needed and (open_ := [each.condition for each in judgements if not each.found.settled]):
                missing_s = PROBE_S  # undecided by enough requests: each probe costs some seconds besides its load
                doing = f"{seen} requests to the new version, and {', '.join(open_)} is undecided"
            if lacking := self._lacking(percent, evidence):
                missing_s = max(missing_s, observed_s * lacking / evidence.other.requests)
            duration_s = min(PROBE_S, max(hold_s - observed_s, missing_s, _LEAST_S))
            busy = "; the machine is busy" if evidence.late else ""
            more, (new, old) = self._probe_once(percent, duration_s, doing + busy)
            observed_s, drawn_new, drawn_old = observed_s + duration_s, drawn_new + new, drawn_old + old
            evidence = evidence.with_more(more)
            judgements = tuple(condition.judge(evidence) for condition in conditions)
            self.steps[-1] = replace(
                self.steps[-1],
                evidence=evidence,
                share=drawn_new / (drawn_new + drawn_old) if drawn_new else 0.0,
                drawn=drawn_new + drawn_old,
                judgements=judgements,
            )
            is_met = any(each.standing is Standing.MET for each in judgements)
            is_over = observed_s >= hold_s and not self._lacking(percent, evidence)
            if is_met or evidence.objections or (is_over and all(each.found.settled for each in judgements)):
                return judgements
            in_vain = not evidence.new.requests or evidence.new.requests >= PATIENCE * needed
            in_vain = in_vain and not self._lacking(percent, evidence)
            if in_vain and observed_s >= PATIENCE * hold_s:
                return judgements

    def _lacking(self, percent: int, evidence: Evidence) -> int:
        """Returns how many answers of the control are missing to compare the last step with the one before."""
        needed = max((enough(each.share) for each in self.options.conditions if each.compares), default=0)
        in_vain = not evidence.other.requests or evidence.other.requests >= PATIENCE * needed
        if in_vain or percent not in self.plan.steps[-2:]:
            return 0
        return max(0, needed - len(evidence.other.latencies_ms))

    def _probe_once(self, percent: int, duration_s: float, doing: str = "") -> tuple[Evidence, tuple[int, int]]:
        """Drives load once, as many requests for the new version as for the old.

        Returns the evidence on the requests at the changed places, and how many of the requests of drawn users were
        for the new and for the old version.
        """
        self.interrupts.check()
        self._runs += 1
        options = replace(self.probe, duration_s=duration_s, seed=self.probe.seed + self._runs)
        router = Router.of_document(self.document if percent == 0 else self._document_at(percent))
        options = balanced(options, router, self.plan)
        doing = f"driving load: {doing}" if doing else "driving load"
        self.progress(RollProgress(percent=percent, doing=doing))
        result = self.load(options, lambda load: self.progress(RollProgress(percent=percent, doing=doing, load=load)))
        self.interrupts.check()
        if self.steps:
            self.steps[-1] = replace(self.steps[-1], runs=(*self.steps[-1].runs, str(result.folder)))
        records = list(read_parquet(result.folder / "history.parquet"))
        seen = figures(records, router, self.plan)
        drawn = figures(filter(is_drawn, records), router, self.plan)
        routing = next(each for each in result.verdicts if each.checker == "routing")
        misroutes = None if routing.outcome == "unknown" else result.misrouted
        late = any(each.checker == "driver" and each.outcome != "valid" for each in result.verdicts)
        if late and seen.new.errors + seen.old.errors:  # the load may be too much for a busy machine
            self.probe = replace(self.probe, rate=max(_LEAST_RATE, self.probe.rate / 2))
        objected = tuple(objections(result.verdicts, records, router, self.plan))
        evidence = replace(seen, misroutes=misroutes, judged=len(records), late=late, objections=objected)
        return evidence, (drawn.new.requests, drawn.old.requests)

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
                    first,
                    author=self.author,
                    comment=comment,
                    expected_revision=self.revision,
                    progress=lambda published: self._warn(0, published),
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


def _check_is_served(document: dict[str, Any], plan: RollPlan, clusters: Collection[str]) -> None:
    placed = clusters_of(document["models"][plan.model]["versions"][plan.to]["cluster"]).values()
    cluster = next((each for each in placed if each not in clusters), "")
    if cluster:
        raise InputError(f"--to: {plan.target} is to run on {cluster}, which has no replica: start some, or move it")


def _check_probes(percent: int, evidence: Evidence) -> None:
    if evidence.objections:
        raise _Abort(f"at {percent} %: the probes are invalid: {evidence.objections[0]}")


def _listed(judgements: Iterable[Judgement]) -> str:
    return ", ".join(f"{each.condition} ({each})" for each in judgements)


def _figures(figures: Figures) -> dict[str, float]:
    return {"requests": figures.requests, "errors": figures.errors, "p99_ms": figures.p99_ms}
