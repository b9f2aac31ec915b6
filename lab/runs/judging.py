"""Judges a run by its folder: asks the checkers, and writes figures and verdicts."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.checkers import DEFAULT_CLAIMS, Claim, Outcome, Verdict, by_claim, check, silent, worst
from lab.checkers.coverage import places_met
from lab.history import UNSENT
from lab.load.arrivals import Schedule
from lab.load.summary import RunSummary, summarize
from lab.routing.bulk_allocation import gc_disabled
from lab.runs.evidence import evidence_of
from lab.runs.folder import RunFolder
from lab.runs.seal import UNSEALED, Seal, verify

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.checkers.plain_schedule import PlannedRun
    from lab.history import Record

_MARGIN = 1.2  # of requests: users come by chance
_DURATION = re.compile(r" --duration[= ]\S+")
_WORDS = {
    Claim.CORRECTNESS: {
        Outcome.VALID: "Routing: right",
        Outcome.INVALID: "Routing: wrong",
        Outcome.UNKNOWN: "Routing: not shown",
    },
    Claim.AVAILABILITY: {
        Outcome.VALID: "Requests: answered, or failed for a known cause",
        Outcome.INVALID: "Requests: not as they should be",
        Outcome.UNKNOWN: "Requests: not shown",
    },
    Claim.TIMING: {
        Outcome.VALID: "Latency: requests were sent on time",
        Outcome.INVALID: "Latency: wrong",
        Outcome.UNKNOWN: "Latency: not to be trusted",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Objectives:
    """What is asked of a run.

    Attributes:
        claims: that decide its outcome.
        availability_slo: see :class:`lab.checkers.Evidence`.
    """

    claims: tuple[Claim, ...] = DEFAULT_CLAIMS
    availability_slo: float | None = None


DEFAULT_OBJECTIVES = Objectives()


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

    @property
    def sent(self) -> int:
        """Right, wrong and failed together."""
        return self.right + self.wrong + self.failed

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
        seal: who vouches for its evidence.
        asked: the claims that decide its outcome.
        wrong: number of answers to which a checker of correctness objects.
        met: requests by what they met: rules, conditions, cells, edges, fallbacks; see :mod:`lab.checkers.coverage`.
        missing: which evidence is missing or cannot be used, and why, in words; empty if all is there.
    """

    folder: Path
    summary: RunSummary
    verdicts: tuple[Verdict, ...]
    seal: Seal = UNSEALED
    asked: tuple[Claim, ...] = DEFAULT_CLAIMS
    wrong: int = 0
    met: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""

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
        """The claims in words, each with the reason and a remedy unless it is valid.

        E.g. ``Routing: right. Requests: answered. Latency: not to be trusted, this machine was busy; try `--rate 20`.``
        """
        words = {claim: _WORDS[claim][outcome] for claim, outcome in self.claims.items()}
        doubts = {claim: self.doubt(claim) for claim in words}
        said = [f"{each}, {doubts[claim]}." if doubts[claim] else f"{each}." for claim, each in words.items()]
        return " ".join([*said, *self.open_questions])

    @property
    def open_questions(self) -> list[str]:
        """What the run is too small to judge, each with a command that would."""
        return [
            f"Open: {each.too_few.what}; {self._longer(each.too_few.times)} would tell."
            for each in self.verdicts
            if each.too_few
        ]

    def _longer(self, times: float) -> str:
        """A run so many times as long, as a command if this run was one."""
        summary, command = self.summary, self.seal.command
        if summary.offered is None or not command.startswith("lab load"):
            return f"a run {ceil(times)} times as long"
        duration_s = ceil(_MARGIN * times * summary.planned / summary.offered)
        return f"`{_DURATION.sub('', command)} --duration {duration_s}`"

    def doubt(self, claim: Claim) -> str:
        """Why a claim is not valid, and what to do; empty if it is valid."""
        outcome = self.claims[claim]
        if outcome is Outcome.VALID:
            return ""
        first = next((each for each in self.verdicts if (each.claim, each.outcome) == (claim, outcome)), None)
        if first is None:
            return "no checker has judged it"
        if outcome is Outcome.INVALID:
            return f"says the checker {first.checker}: {first.summary.partition(';')[0]}"
        if self.missing and claim is not Claim.TIMING:
            return self.missing
        if claim is Claim.TIMING and self._suggested_rate:
            return f"this machine was busy; try `--rate {self._suggested_rate:g}`"
        remedy = "try a longer `--duration`" if self.summary.ok else "`lab doctor` and `lab logs` may say why"
        return f"{first.checker}: {first.summary.partition(';')[0]}; {remedy}"

    @property
    def misrouted(self) -> int:
        """Number of answers that no rule in force allowed."""
        return self._violations("routing")

    @property
    def torn(self) -> int:
        """Number of answers whose header and body disagree."""
        return self._violations("tear")

    @property
    def _suggested_rate(self) -> float:
        """A rate to try where this machine was too slow for the one it was given; 0 if none was."""
        summary = self.summary
        if summary.offered is None or summary.ok + summary.failed <= 1:
            return 0
        return round_rate_below(summary.achieved_rate / 2)

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
            "seal": str(self.seal),
            "signed": {name: value for name, value in asdict(self.seal).items() if value and name != "known"},
            "verdict": str(self.outcome),
            "claims": {str(claim): str(outcome) for claim, outcome in self.claims.items()},
            "silent": silent(self.verdicts),
            "verdicts": [
                {
                    "checker": verdict.checker,
                    "claim": str(verdict.claim),
                    "outcome": str(verdict.outcome),
                    "summary": verdict.summary,
                    **({"open": verdict.too_few.what} if verdict.too_few else {}),
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


def judge(
    folder: Path,
    records: Sequence[Record] | None = None,
    *,
    objectives: Objectives = DEFAULT_OBJECTIVES,
    key: str = "",
    expect: str = "",
    signers: Path | None = None,
) -> RunResult:
    """Judges a run by its folder, and by nothing else. The evidence must be as it was sealed.

    Args:
        folder: of the run.
        records: its history, if the caller has read it already.
        objectives: what is asked of it.
        key: see :func:`lab.runs.seal.verify`, as for ``expect`` and ``signers``.
        expect: id that the run must have.
        signers: file of those of whom one must have signed it.

    Raises:
        RunError: a file is missing, cannot be read, or is not as it was sealed.
    """
    run = RunFolder(folder)
    sealed = verify(run, key=key, expect=expect, signers=signers)
    with run.intact(), gc_disabled():
        return judged(folder, evidence_of(run, records), sealed, objectives)


def judged(
    folder: Path, evidence: Evidence, sealed: Seal = UNSEALED, objectives: Objectives = DEFAULT_OBJECTIVES
) -> RunResult:
    """Returns the figures and verdicts of a run whose evidence has been gathered."""
    evidence = replace(evidence, availability_slo=objectives.availability_slo)
    verdicts = tuple(check(evidence))
    summary = summarize(evidence.records, _schedule(evidence.plan), came_due=evidence.planned)
    wrong = wrong_answers(evidence.records, verdicts)
    met = places_met(evidence)
    missing = evidence.clock_jump or evidence.missing
    return RunResult(folder, summary, verdicts, sealed, objectives.claims, wrong, met, missing)


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


def write_summary(result: RunResult) -> None:
    """Writes figures and verdicts, for other programs: the lab itself judges a run again whenever it is asked."""
    RunFolder(result.folder).summary = result.to_document()
