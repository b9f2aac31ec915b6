"""Carrying a roll out: publish a step, look at it under load, go on, wait, or go back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lab.errors import InputError, LabError, StaleRevisionError
from lab.history import UNSENT, read_parquet
from lab.roll.conditions import Figures, Judgement, Seen, Standing
from lab.roll.plan import ALL, RollPlan, plan_roll
from lab.routing.compiled import Router
from lab.routing.keys import routing_key
from lab.routing.schema import CONTEXT_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from lab.admin import AdminClient
    from lab.history import Record
    from lab.load.progress import Progress
    from lab.roll.conditions import Condition
    from lab.roll.interrupts import Interruption
    from lab.runs import LoadOptions, RunResult

# A hold is looked at in pieces, so that a bad step does not last as long as a good one.
PROBE_S = 10.0
# A step of which too little was seen is held so many times as long at most.
PATIENCE = 5
_NS_PER_MS = 1e6


class Outcome(StrEnum):
    """How a roll ended."""

    COMPLETED = "completed"
    ABORTED = "aborted"  # the table from before the roll is in force again
    STOPPED = "stopped"  # somebody else's table is in force, and was left alone


@dataclass(frozen=True, slots=True, kw_only=True)
class RollOptions:
    """What to roll, and how carefully.

    Attributes:
        model: whose traffic.
        to: the version that gets it.
        steps: percents of the new version, rising to 100.
        hold_s: for how long each step is looked at, seconds; longer if too few requests were seen.
        conditions: what breaks the roll off.
        use_case: roll in this one alone.
        force: go on where too few requests were seen to say.
        probe: the load that is driven meanwhile; its caller is chosen if empty, its use cases and duration are set.
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
class Held:
    """One step, looked at.

    Attributes:
        revision: that carried it.
        share: of the requests to the places rolled, answered by the new version, 0 to 1.
        judgements: of the conditions; empty if it was not looked at to the end.
        runs: folders of the evidence.
    """

    percent: int
    revision: int
    share: float = 0.0
    seen: Seen = field(default_factory=Seen)
    judgements: tuple[Judgement, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RollProgress:
    """A word of a roll that is under way.

    Attributes:
        percent: the step.
        doing: what is going on.
        load: how the probe is going, while there is one.
        held: the step, once it has been judged.
    """

    percent: int
    doing: str
    load: Progress | None = None
    held: Held | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RollResult:
    """What came of a roll.

    Attributes:
        reason: why it did not complete, empty if it did.
        revision: in force at the end, as far as this roll knows.
        left_alone: what it did not touch.
    """

    model: str
    to: str
    outcome: Outcome
    reason: str
    revision: int
    steps: tuple[Held, ...]
    left_alone: tuple[str, ...]

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {
            **{name: getattr(self, name) for name in ("model", "to", "reason", "revision")},
            "outcome": str(self.outcome),
            "left_alone": list(self.left_alone),
            "steps": [
                {
                    "percent": held.percent,
                    "revision": held.revision,
                    "share": held.share,
                    "new": _figures(held.seen.new),
                    "old": _figures(held.seen.old),
                    "misroutes": held.seen.misroutes,
                    "verdicts": [asdict(each) for each in held.judgements],
                    "runs": list(held.runs),
                }
                for held in self.steps
            ],
        }


class _BrokenOff(Exception):  # noqa: N818 (a turn of events, no error)
    """The roll is to be taken back; the text says why."""


def execute(
    options: RollOptions,
    *,
    admin: AdminClient,
    author: str,
    callers: Collection[str],
    load: Callable[[LoadOptions, Callable[[Progress], None]], RunResult],
    interruption: Interruption,
    progress: Callable[[RollProgress], None],
) -> RollResult:
    """Rolls, and takes it back if that is called for.

    Args:
        options: what to roll.
        admin: publishes.
        author: who rolls.
        callers: in whose names load can be driven.
        load: drives some, and says what it showed.
        interruption: asks to stop.
        progress: told how it goes.

    Raises:
        InputError: the options do not fit the route table in force; nothing was published.
    """
    before = admin.revision()
    document = before.document or {}
    plan = plan_roll(document, model=options.model, to=options.to, steps=options.steps, use_case=options.use_case)
    _check_is_served(document, plan, {each.cluster for each in admin.status().replicas})
    probe = _probe(options, plan, callers)
    roll = _Roll(options, plan, document, before.revision, admin, author, probe, load, interruption, progress)
    return roll.run()


@dataclass(slots=True)
class _Roll:
    """One roll; ``revision`` is the latest that it published, at first the one that it began with."""

    options: RollOptions
    plan: RollPlan
    document: dict[str, Any]
    revision: int
    admin: AdminClient
    author: str
    probe: LoadOptions
    load: Callable[[LoadOptions, Callable[[Progress], None]], RunResult]
    interruption: Interruption
    progress: Callable[[RollProgress], None]
    held: list[Held] = field(default_factory=list)
    _old: Figures = field(default_factory=Figures)
    _runs: int = 0

    def run(self) -> RollResult:
        first = self.revision
        try:
            if self.plan.steps[0] == ALL:
                self._old = self._look(0).old  # there will be no old version to compare with
            for percent in self.plan.steps:
                self._step(percent)
        except StaleRevisionError as error:
            return self._result(Outcome.STOPPED, f"somebody else has published: {error}; nothing was overwritten")
        except (KeyboardInterrupt, _BrokenOff, LabError) as error:
            # A driver that was only just starting dies of the same Ctrl-C.
            reason = "interrupted" if self.interruption.asked else str(error)
            return self._take_back(first, reason)
        return self._result(Outcome.COMPLETED, "")

    def _step(self, percent: int) -> None:
        self.interruption.check()
        self.progress(RollProgress(percent=percent, doing="publishing"))
        use_cases = self.plan.use_cases(percent)
        sources = {name: (f"roll of {name}", json.dumps(each)) for name, each in use_cases.items()}
        with self.interruption.shielded():
            self.revision = self.admin.publish_change(
                sources, author=self.author, comment=self.plan.comment(percent), expected_revision=self.revision
            )
        self.held.append(Held(percent=percent, revision=self.revision))
        seen, judgements = self._hold(percent)
        if seen.old.latencies_ms:
            self._old = seen.old
        self.progress(RollProgress(percent=percent, doing="judged", held=self.held[-1]))
        met = [each for each in judgements if each.standing is Standing.MET]
        unknown = [each for each in judgements if each.standing is Standing.UNKNOWN]
        if met:
            raise _BrokenOff(f"at {percent} %: {_listed(met)}")
        if unknown and not self.options.force:
            raise _BrokenOff(
                f"at {percent} %: too few requests to say after {PATIENCE * self.options.hold_s:g} s: "
                f"{_listed(unknown)}; give a higher --rate or a longer --hold, or --force"
            )

    def _hold(self, percent: int) -> tuple[Seen, list[Judgement]]:
        """Looks until something is clear, at least for the time asked, and at most :data:`PATIENCE` times as long."""
        seen = Seen()
        judgements: list[Judgement] = []
        looked_s = 0.0
        while looked_s < PATIENCE * self.options.hold_s:
            piece_s = min(PROBE_S, self.options.hold_s)
            new = self._look(percent, piece_s)
            looked_s += piece_s
            seen = Seen(seen.new.with_more(new.new), seen.old.with_more(new.old), _sum(seen.misroutes, new.misroutes))
            # Where nobody is left with the old version, the step before tells how it did.
            against = seen if percent != ALL else replace(seen, old=self._old)
            judgements = [condition.judge(against) for condition in self.options.conditions]
            answered = seen.new.requests + seen.old.requests
            self.held[-1] = replace(
                self.held[-1],
                seen=against,
                share=seen.new.requests / answered if answered else 0.0,
                judgements=tuple(judgements),
            )
            standings = {each.standing for each in judgements}
            if Standing.MET in standings:
                break
            if looked_s >= self.options.hold_s and Standing.UNKNOWN not in standings:
                break
        return seen, judgements

    def _look(self, percent: int, duration_s: float | None = None) -> Seen:
        """Drives load once, and says what became of the requests at the places that are rolled."""
        self.interruption.check()
        self._runs += 1
        options = replace(
            self.probe, duration_s=duration_s or min(PROBE_S, self.options.hold_s), seed=self.probe.seed + self._runs
        )
        self.progress(RollProgress(percent=percent, doing="looking"))
        result = self.load(
            options, lambda load: self.progress(RollProgress(percent=percent, doing="looking", load=load))
        )
        self.interruption.check()
        if self.held:
            self.held[-1] = replace(self.held[-1], runs=(*self.held[-1].runs, str(result.folder)))
        table = self.document if percent == 0 else self._document_at(percent)
        new, old = figures(read_parquet(result.folder / "history.parquet"), Router.of_document(table), self.plan)
        routing = next(each for each in result.verdicts if each.checker == "routing")
        return Seen(new, old, None if routing.outcome == "unknown" else result.misrouted)

    def _document_at(self, percent: int) -> dict[str, Any]:
        return {**self.document, "use_cases": {**self.document["use_cases"], **self.plan.use_cases(percent)}}

    def _take_back(self, first: int, reason: str) -> RollResult:
        if self.revision == first:
            return self._result(Outcome.ABORTED, f"{reason}; nothing had changed yet")
        comment = f"roll {self.plan.model} to {self.plan.to} aborted: {reason}"
        with self.interruption.shielded():
            self.progress(RollProgress(percent=0, doing=f"taking it back: {reason}"))
            try:
                self.revision = self.admin.rollback(
                    first, author=self.author, comment=comment, expected_revision=self.revision
                )
            except StaleRevisionError as error:
                return self._result(Outcome.STOPPED, f"{reason}; not taken back, somebody else has published: {error}")
        return self._result(Outcome.ABORTED, reason)

    def _result(self, outcome: Outcome, reason: str) -> RollResult:
        return RollResult(
            model=self.plan.model,
            to=self.plan.to,
            outcome=outcome,
            reason=reason,
            revision=self.revision,
            steps=tuple(self.held),
            left_alone=self.plan.left_alone,
        )


def figures(records: Iterable[Record], router: Router, plan: RollPlan) -> tuple[Figures, Figures]:
    """What the new version and the old ones did for the requests that the rules sent to them.

    Which version a request was for is asked of the router: a failure does not say. An answer by anybody else than the
    version chosen, a fallback or the caller's own, is a failure of that version.
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
    """The load to look by: in the name of whoever may ask for the most of what is rolled, unless somebody is named."""
    asks = {caller: [name for name, each in plan.before.items() if caller in each["callers"]] for caller in callers}
    caller = options.probe.caller or max(asks, key=lambda each: len(asks[each]), default="")
    if not asks.get(caller):
        raise InputError(
            f"--caller: {caller or 'nobody in this lab'} may ask for nothing that is rolled "
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
