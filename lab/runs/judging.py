"""Judges a run by its folder: gathers the evidence, asks the checkers, and writes figures and verdicts."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from math import floor, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.checkers import (
    DEFAULT_CLAIMS,
    Abilities,
    Asks,
    Claim,
    Disturbance,
    Evidence,
    Outcome,
    RevisionInForce,
    Unheard,
    Verdict,
    by_claim,
    check,
    worst,
)
from lab.checkers.coverage import places_met
from lab.errors import RunError
from lab.history import UNSENT, read_parquet
from lab.history.arrivals import Arrival, Heard, read_arrivals
from lab.load.arrivals import Schedule
from lab.load.summary import RunSummary, summarize
from lab.runs.events import RUN_EVENTS, disturbances, run_events
from lab.runs.folder import (
    ARRIVALS,
    COPIES,
    COPIES_ERROR,
    DRIVER,
    HISTOGRAM,
    HISTORY,
    LOCUSTFILE,
    PLAN,
    PLANNED,
    PROBES,
    PUBLISHED,
    REGISTRATIONS,
    REVISIONS,
    SPEC,
    SUMMARY,
    TOGETHER,
    TRACE,
    VERSIONS,
    WINDOW,
    plan_of,
    read_json,
)
from lab.runs.planned import planned_in
from lab.runs.probing import probes_in
from lab.runs.published import published_in
from lab.runs.registrations import registrations_in
from lab.runs.seal import UNSEALED, verify
from lab.topologies import TOPOLOGIES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lab.checkers.plain_schedule import PlannedRun
    from lab.history import Record
    from lab.load.plan import LoadPlan

# A node acknowledges a revision on its main thread; Envoy's workers, and requests in flight there, switch a moment
# later. For this time, an answer by the previous revision is right.
SETTLING_NS = 100_000_000

EVIDENCE = (
    *(PLAN, PLANNED, DRIVER, TRACE, LOCUSTFILE, HISTORY, HISTOGRAM, REVISIONS, ARRIVALS, COPIES, COPIES_ERROR),
    *(RUN_EVENTS, PUBLISHED, PROBES, WINDOW, REGISTRATIONS, SPEC, VERSIONS, SUMMARY, TOGETHER),
)
"""The files in a run's folder that are sealed."""

_WORDS = {
    Claim.CORRECTNESS: {
        Outcome.VALID: "Routing: right",
        Outcome.INVALID: "Routing: wrong",
        Outcome.UNKNOWN: "Routing: not shown",
    },
    Claim.AVAILABILITY: {
        Outcome.VALID: "Requests: answered, or the cause is known",
        Outcome.INVALID: "Requests: some failed, and nothing says why",
        Outcome.UNKNOWN: "Requests: not shown",
    },
    Claim.TIMING: {
        Outcome.VALID: "Latency: to be trusted",
        Outcome.INVALID: "Latency: wrong",
        Outcome.UNKNOWN: "Latency: not to be trusted",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked of a run.

    Attributes:
        claims: that decide its outcome.
        availability_slo: see :class:`lab.checkers.Evidence`.
    """

    claims: tuple[Claim, ...] = DEFAULT_CLAIMS
    availability_slo: float | None = None


DEFAULT_TERMS = Terms()


class Counts(NamedTuple):
    """The requests of a run by how they ended; disjoint, so they add up to those that were planned or came due.

    Attributes:
        right: answered, and no checker of correctness objects.
        wrong: answered, and one does: another version, another score, a tear, another content.
        failed: sent and not answered.
        unsent: not due before the run was stopped.
    """

    right: int
    wrong: int
    failed: int
    unsent: int

    def __str__(self) -> str:
        """The counts that are not 0, in words: ``811 right, 3 failed``."""
        return ", ".join(f"{count} {name}" for name, count in self._asdict().items() if count) or "no request"


@dataclass(frozen=True, slots=True)
class RunResult:
    """A judged run.

    Attributes:
        folder: the run's.
        summary: its figures.
        verdicts: one for each checker.
        seal: how its evidence is sealed, in words.
        asked: the claims that decide its outcome.
        wrong: number of answers to which a checker of correctness objects.
        met: requests by what they met: rules, conditions, cells, edges, fallbacks; see :mod:`lab.checkers.coverage`.
    """

    folder: Path
    summary: RunSummary
    verdicts: tuple[Verdict, ...]
    seal: str = UNSEALED
    asked: tuple[Claim, ...] = DEFAULT_CLAIMS
    wrong: int = 0
    met: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> Counts:
        """The requests by how they ended."""
        summary = self.summary
        return Counts(summary.ok - self.wrong, self.wrong, summary.failed, summary.by_status.get(UNSENT, 0))

    @property
    def claims(self) -> dict[Claim, Outcome]:
        """The outcome of each claim."""
        return by_claim(self.verdicts)

    @property
    def outcome(self) -> Outcome:
        """The worst outcome of the claims that were asked for."""
        return worst(outcome for claim, outcome in self.claims.items() if claim in self.asked)

    @property
    def sentence(self) -> str:
        """The claims in words: ``Routing: right. Requests: answered. Latency: to be trusted``."""
        words = {claim: _WORDS[claim][outcome] for claim, outcome in self.claims.items()}
        words[Claim.TIMING] += self._advice
        return " ".join(f"{each}." for each in words.values())

    @property
    def misrouted(self) -> int:
        """Number of answers that no rule in force allowed."""
        return self._violations("routing")

    @property
    def torn(self) -> int:
        """Number of answers whose header and body disagree."""
        return self._violations("tear")

    @property
    def _advice(self) -> str:
        """A rate to try where this machine was too slow for the one it was given."""
        late = self.claims[Claim.TIMING] is Outcome.UNKNOWN and self.summary.offered is not None
        rate = round_rate_below(self.summary.achieved_rate / 2) if late else 0
        return f", this machine was busy; try `--rate {rate:g}`" if rate else ""

    def _violations(self, checker: str) -> int:
        return sum(len(verdict.violations) for verdict in self.verdicts if verdict.checker == checker)

    def to_document(self) -> dict[str, Any]:
        """Returns it as a JSON object, for ``summary.json`` and ``--json``."""
        return {
            "run_dir": str(self.folder),
            **asdict(self.summary),
            **{name: count for name, count in self.counts._asdict().items() if name in ("right", "wrong")},
            "misrouted": self.misrouted,
            "torn": self.torn,
            "met": dict(self.met),
            "seal": self.seal,
            "verdict": str(self.outcome),
            "claims": {str(claim): str(outcome) for claim, outcome in self.claims.items()},
            "verdicts": [
                {
                    "checker": verdict.checker,
                    "claim": str(verdict.claim),
                    "outcome": str(verdict.outcome),
                    "summary": verdict.summary,
                    "violations": [asdict(violation) for violation in verdict.violations],
                }
                for verdict in self.verdicts
            ],
        }


def round_rate_below(rate: float) -> float:
    """Returns the largest of 1, 2 and 5 times a power of ten that is not above a rate; 0 for 0."""
    if rate <= 0:
        return 0.0
    power = 10.0 ** floor(log10(rate))
    return max(each for each in (1, 2, 5) if each * power <= rate or each == 1) * power


def judge(folder: Path, records: Sequence[Record] | None = None, *, terms: Terms = DEFAULT_TERMS) -> RunResult:
    """Judges a run by its folder, and by nothing else. The evidence must be as it was sealed.

    Args:
        folder: of the run.
        records: its history, if the caller has read it already.
        terms: what is asked of it.

    Raises:
        RunError: a file is missing, cannot be read, or is not as it was sealed.
    """
    sealed = verify(folder, EVIDENCE)
    plan = plan_of(folder)
    evidence = replace(evidence_of(folder, plan, records), availability_slo=terms.availability_slo)
    verdicts = tuple(check(evidence))
    summary = summarize(evidence.records, _schedule(evidence.plan), came_due=evidence.planned)
    wrong = wrong_answers(evidence.records, verdicts)
    return RunResult(folder, summary, verdicts, sealed, terms.claims, wrong, places_met(evidence))


def wrong_answers(records: Iterable[Record], verdicts: Iterable[Verdict]) -> int:
    """Returns how many answers some checker of correctness objects to."""
    objected = {
        each.sequence for verdict in verdicts if verdict.claim is Claim.CORRECTNESS for each in verdict.violations
    }
    return sum(record.status == "OK" and record.sequence in objected for record in records)


def _schedule(planned: PlannedRun | None) -> Schedule | None:
    """Returns the times that were planned, for figures."""
    if planned is None:
        return None
    offsets = array("q", (each.offset_ns for each in planned.requests))
    return Schedule(offsets, array("q"), planned.duration_ns)


def evidence_of(folder: Path, plan: LoadPlan, records: Sequence[Record] | None = None) -> Evidence:
    """Returns the evidence in a run's folder. ``records`` saves reading the history again.

    Raises:
        RunError: a file is missing or cannot be read.
    """
    events = disturbances(run_events(folder))
    window = window_in(folder)
    arrivals, unheard = arrivals_in(folder, events, window)
    records = read_parquet(folder / HISTORY) if records is None else records
    received = copies_in(folder) if arrivals is None else None if unheard else _copies(arrivals, records)
    planned = planned_in(folder)
    copies = None if received is None else {key: frozenset(id_ for id_, _ in each) for key, each in received.items()}
    return Evidence(
        records=records,
        revisions=_as_published(revisions_in_force(read_json(folder / REVISIONS)), published_in(folder)),
        planned=_count_of_driver(folder) if planned is None else len(planned.requests),
        offered_rate=None if planned is None else planned.offered_rps,
        plan=planned,
        probes=probes_in(folder),
        closed_loop=plan.locust is not None and plan.locust.closed_loop,
        shadow_copies=copies,
        shadow_duplicates=_repeated(received or {}),
        copies_received=_receipts(received or {}),
        receipt_key=_receipt_key(folder),
        topology=plan.topology,
        caller=plan.caller,
        timeout_s=plan.timeout_s,
        window_ns=window,
        registrations=registrations_in(folder),
        asks=_asks(plan),
        disturbances=events,
        abilities=_abilities(folder, plan),
        arrivals=arrivals,
        unheard=unheard,
    )


def _abilities(folder: Path, plan: LoadPlan) -> Abilities:
    """Returns what the run's topology does, by its own description; nothing if it is not known here."""
    topology = TOPOLOGIES.get(plan.topology)
    if topology is None:
        return Abilities()
    can = topology.capabilities
    spec = read_json(folder / SPEC) if (folder / SPEC).exists() else {}
    return Abilities(
        follows_rules=bool(can.follows_rules),
        fails_over=bool(can.failover),
        reports_attempts=bool(can.attempts_reported),
        budgets_retries=bool(can.retry_budget),
        budgets_hedges=bool(can.hedging) and not can.hedging.note,
        limits_rates=bool(can.tenant_rates),
        limits_concurrency=bool(can.tenant_concurrency),
        limiters=max((len(plan.endpoints.by_role.get(role, ())) for role in topology.between), default=0) or 1,
        proves_callers=spec.get("security", {}).get("mode") == "mtls",
    )


def arrivals_in(
    folder: Path, events: Sequence[Disturbance], window_ns: tuple[int, int] | None
) -> tuple[list[Arrival] | None, list[Unheard]]:
    """Returns what replicas received, and which cannot say it of the whole run; None if they were not asked.

    A replica whose process began during the run had none before, unless it was killed or replaced.

    Raises:
        RunError: the file holds something else.
    """
    if not (folder / ARRIVALS).exists():
        return None, []
    arrivals, heard = read_arrivals(folder / ARRIVALS)
    from_ns = 0 if window_ns is None else window_ns[0]
    return arrivals, [each for name, said in heard.items() if (each := _unheard(name, said, events, from_ns))]


def _unheard(name: str, said: Heard, events: Sequence[Disturbance], from_ns: int) -> Unheard | None:
    if said.known_from_ns is None:
        return Unheard(name, None, said.error)
    if said.known_from_ns <= from_ns:
        return None
    if said.known_from_ns > said.began_ns:
        return Unheard(name, said.known_from_ns, "has dropped what it received first")
    if any(each.target in {name, name.rpartition("-")[0]} for each in events):
        return Unheard(name, said.known_from_ns, "has lost what it received before it was started again")
    return None


def _copies(arrivals: Sequence[Arrival], records: Sequence[Record]) -> dict[str, list[tuple[str, str]]]:
    """Returns the shadow copies of these requests that were accepted, by routing key."""
    requests = {record.request_id for record in records}
    copies: dict[str, list[tuple[str, str]]] = {}
    for each in arrivals:
        if each.is_copy and each.status != "FAILED_PRECONDITION" and each.request_id in requests:
            copies.setdefault(each.routing_key, []).append((each.request_id, each.received))
    return copies


def window_in(folder: Path) -> tuple[int, int] | None:
    """Returns when a run began and ended, Unix nanoseconds; None for a run from before that was recorded.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / WINDOW
    if not path.exists():
        return None
    document = read_json(path)
    try:
        return int(document["from_ns"]), int(document["until_ns"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: no beginning and end of a run; name the folder of a finished run") from error


def _as_published(
    revisions: Sequence[RevisionInForce], published: Mapping[int, Mapping[str, Any]]
) -> list[RevisionInForce]:
    """Returns the revisions with the tables as published, where their text is known."""
    return [
        replace(each, document=published[each.revision], kept=each.document) if each.revision in published else each
        for each in revisions
    ]


def _asks(plan: LoadPlan) -> Asks | None:
    """Returns the mix that a plan draws; None if a locustfile decides what is asked."""
    if plan.locust is not None:
        return None
    return Asks(
        use_cases=[use_case.name for use_case in plan.use_cases],
        caller=plan.caller,
        users=plan.users,
        contexts=plan.contexts,
        traffic_origin=plan.traffic_origin,
        edge_every=plan.edge_every,
        edge_cases=[(case.use_case, case.context) for case in plan.edge_cases],
    )


def _count_of_driver(folder: Path) -> int:
    """Returns how many requests came due by the driver's count; 0 if it left no summary."""
    if not (folder / DRIVER).exists():
        return 0
    document = read_json(folder / DRIVER)
    try:
        return int(document["planned"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / DRIVER}: no summary of a driver; name the folder of a finished run") from error


def copies_in(folder: Path) -> Mapping[str, Sequence[tuple[str, str]]] | None:
    """Returns request id and receipt of each shadow copy that replicas received, by routing key.

    None without the file: the replicas were not asked. Older files have no receipts, which are empty then.

    Raises:
        RunError: the file holds something else.
    """
    path = folder / COPIES
    if not path.exists():
        return None
    found = read_json(path)
    try:
        return {key: [_copy(each) for each in _list(copies)] for key, copies in found.items()}
    except (AttributeError, TypeError):
        raise RunError(f"{path}: no lists of copies by routing key; restore the file, or remove it") from None


def _list(copies: object) -> list[object]:
    if not isinstance(copies, list):
        raise TypeError(f"{copies!r} is no list")
    return copies


def _copy(entry: object) -> tuple[str, str]:
    match entry:
        case str():
            return entry, ""
        case [str(request_id), str(receipt)]:
            return request_id, receipt
        case _:
            raise TypeError(f"{entry!r} is no copy")


def _repeated(received: Mapping[str, Sequence[tuple[str, str]]]) -> frozenset[str]:
    return frozenset(
        each for copies in received.values() for each, times in Counter(id_ for id_, _ in copies).items() if times > 1
    )


def _receipts(received: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[str]]:
    by_request: dict[str, list[str]] = {}
    for copies in received.values():
        for request_id, receipt in copies:
            by_request.setdefault(request_id, []).append(receipt)
    return by_request


def _receipt_key(folder: Path) -> str:
    path = folder / SPEC
    return str(read_json(path).get("receipt_key", "")) if path.exists() else ""


def write_summary(result: RunResult) -> None:
    """Writes figures and verdicts, for other programs: the lab itself judges a run again whenever it is asked."""
    (result.folder / SUMMARY).write_text(json.dumps(result.to_document(), indent=1))


def revisions_in_force(revisions: Sequence[dict[str, Any]]) -> list[RevisionInForce]:
    """Returns the revisions with the time in which answers by each are right.

    It begins when the revision's models are loaded and it goes out to nodes. It ends, after a settling time, when all
    nodes have converged on its successor, or when it has been rolled back.
    """
    steps = [{step["phase"]: step["at_ns"] for step in each["steps"]} for each in revisions]
    result = []
    for index, (revision, its_steps) in enumerate(zip(revisions, steps, strict=True)):
        if "loaded" not in its_steps:
            continue  # no node has received it
        later = (following["converged"] for following in steps[index + 1 :] if "converged" in following)
        until = its_steps["failed"] if "failed" in its_steps else next(later, None)
        result.append(
            RevisionInForce(
                revision["revision"],
                revision["document"],
                its_steps["loaded"],
                None if until is None else until + SETTLING_NS,
                its_steps.get("converged"),
            )
        )
    return result
