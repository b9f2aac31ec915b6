"""Does each arm of a split, an experiment or a shadow get its share of the units?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import by_chosen_model, reference
from lab.checkers.verdict import Claim, Outcome, TooFew, Verdict, Violation
from lab.measure.binomial import in_words, least_trials, sigmas, tail

if TYPE_CHECKING:
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "split"

SIGMAS = 5
_COPIED, _NOT_COPIED = "copied to the shadow", "not copied"


@dataclass(slots=True)
class _Tally:
    """One draw under one revision, with the arm of each unit.

    Attributes:
        name: in words.
        unit: that is hashed, in words.
        revision: of the rules.
        weights: percent by arm.
        first: the first request of the draw.
        arms: by unit; empty for a unit that was never answered.
        examples: the first request that each arm answered.
    """

    name: str
    unit: str
    revision: int
    weights: Mapping[str, int]
    first: Record
    arms: dict[str, str] = field(default_factory=dict)
    examples: dict[str, Record] = field(default_factory=dict)

    def add(self, unit: str, arm: str, record: Record) -> None:
        if arm:
            self.examples.setdefault(arm, record)
        if not self.arms.get(unit):
            self.arms[unit] = arm

    def shares(self) -> list[_Share]:
        lost = sum(not arm for arm in self.arms.values())
        counts = dict.fromkeys(self.weights, 0)
        for arm in self.arms.values():
            if arm:
                counts[arm] = counts.get(arm, 0) + 1
        return [_Share(self, arm, count, lost) for arm, count in counts.items()]


@dataclass(frozen=True, slots=True)
class _Share:
    """The share of one arm.

    Attributes:
        count: number of its units.
        lost: number of units without an answer, any of which may belong to this arm.
    """

    tally: _Tally
    arm: str
    count: int
    lost: int

    @property
    def weight(self) -> int:
        return self.tally.weights.get(self.arm, 0)

    @property
    def units(self) -> int:
        return len(self.tally.arms)

    def off(self) -> tuple[float, float]:
        """Returns by how many sigma the share is off, at least and at most, depending on the lost units."""
        share = self.weight / 100
        ends = [sigmas(tail(count, self.units, share)) for count in (self.count, self.count + self.lost)]
        crosses = self.count <= self.units * share <= self.count + self.lost
        return (0.0 if crosses else min(ends)), max(ends)

    def __str__(self) -> str:
        least, most = self.off()
        seen, off = f"{self.count / self.units:.2%}", in_words(least)
        lost = ""
        if self.lost:
            lost = f", and {self.lost} that got no answer may be its own as well"
            seen += f" to {(self.count + self.lost) / self.units:.2%}"
            off = f"{least:.1f} to {in_words(most)}" if least < most else off
        return (
            f"{self.tally.name}, revision {self.tally.revision}: {self.arm} has {self.count} of {self.units} "
            f"{self.tally.unit}{lost} ({seen}, expected {self.weight}%: {off} off)"
        )


def check(evidence: Evidence) -> Verdict | None:
    """Counts, under each revision, the distinct units of each arm.

    A request counts if only one revision was in force while it was in flight. A unit is a value of the field that the
    rule hashes; for a shadow, it is a request. Pinned requests are not drawn, and an answer by a fallback or by the
    caller itself does not show the draw. Users of edge cases are chosen for their buckets, and do not count. Cells of
    the same version are one arm.

    The bound is that of the exact binomial distribution: no share may be as unlikely as 5 sigma of a normal one (a
    chance of 1 in 3.5 million a side). A draw is judged once it has enough units that an arm without any would exceed
    the bound: 22 for halves, 294 for 5 %, 1,499 for 1 %. With fewer units, a share can be found wrong, but not right.

    Returns:
        None if no request was drawn. Unknown if no draw had enough units, which decides nothing, or if units without an
        answer could make the difference.
    """
    tallies, drawn = _tallies(evidence)
    if not drawn:
        return None
    shares = [share for tally in tallies for share in tally.shares()]
    wrong = [share for share in shares if share.off()[0] > SIGMAS]
    violations = tuple(sorted((_violation(share) for share in wrong), key=lambda one: one.sequence))
    judged = [tally for tally in tallies if len(tally.arms) >= _enough(tally)]
    open_ones = [share for tally in judged for share in tally.shares() if share.off()[1] > SIGMAS]
    summary = f"{len(judged)} of {len(tallies)} draws had enough units to judge"
    if not violations and open_ones:
        summary += f"; units without an answer leave open whether {len(open_ones)} shares are within {SIGMAS} sigma"
        return Verdict(NAME, Outcome.UNKNOWN, f"{summary}: {max(open_ones, key=lambda share: share.off()[1])}")
    if shares:
        summary += f"; farthest off: {max(shares, key=lambda share: share.off())}"
    if violations:
        summary = f"{len(violations)} shares off by more than {SIGMAS} sigma; {summary}"
        return Verdict(NAME, Outcome.INVALID, summary, violations)
    too_few = _too_few(tallies, {tally.name for tally in judged})
    return Verdict(NAME, Outcome.VALID if judged else Outcome.UNKNOWN, summary, too_few=too_few)


def _too_few(tallies: Sequence[_Tally], judged: Collection[str]) -> TooFew | None:
    """Which draw had too few units under each of its revisions; the one that needs most, of several."""
    most: dict[str, _Tally] = {}
    for tally in tallies:
        if tally.name not in judged and len(tally.arms) >= len(most.get(tally.name, tally).arms):
            most[tally.name] = tally
    if not most:
        return None
    tally = max(most.values(), key=lambda one: _enough(one) / len(one.arms))
    least = min(weight for weight in tally.weights.values() if weight)
    units = "users" if "user_id" in tally.unit else tally.unit
    what = f"too few {units} to judge the {least} % arm of {tally.name}: {len(tally.arms)} of {_enough(tally)}"
    return TooFew(what, _enough(tally) / len(tally.arms))


def _tallies(evidence: Evidence) -> tuple[list[_Tally], bool]:
    """Returns the draws of requests with one revision in force, and whether any request was drawn at all."""
    timeline = evidence.timeline
    copied = None if evidence.copies is None else evidence.copies_by_request.keys()
    tallies: dict[tuple[int, str, str], _Tally] = {}
    drawn = False
    for record in evidence.records:
        found = () if record.override else timeline.during(record)
        for rules in found:
            arm = reference(record) if by_chosen_model(record) else ""
            draw = rules.draw(record)
            percent = rules.shadow_percent(record.use_case) if arm and copied is not None else 0
            drawn = drawn or bool(draw or percent)
            if len(found) > 1:
                continue
            if draw is not None and (evidence.request_mix is None or evidence.request_mix.draws(record)):
                key = (rules.number, record.use_case, draw.rule)
                if key not in tallies:
                    tallies[key] = _Tally(str(draw), f"units of {draw.unit}", rules.number, draw.weights, record)
                tallies[key].add(getattr(record, draw.unit), arm, record)
            if percent and copied is not None:
                key = (rules.number, record.use_case, "")
                if key not in tallies:
                    weights = {_COPIED: percent, _NOT_COPIED: 100 - percent}
                    name = f"shadow of {record.use_case}"
                    tallies[key] = _Tally(name, "requests", rules.number, weights, record)
                is_copied = bool(record.shadow) or record.request_id in copied
                tallies[key].add(record.request_id, _COPIED if is_copied else _NOT_COPIED, record)
    return list(tallies.values()), drawn


def _enough(tally: _Tally) -> int:
    return max(least_trials(weight / 100, SIGMAS) for weight in tally.weights.values())


def _violation(share: _Share) -> Violation:
    record = share.tally.examples.get(share.arm, share.tally.first)
    return Violation(NAME, record.sequence, record.request_id, str(share))


CHECKER = Checker(
    name=NAME,
    question="Does each arm get its share of the units, to 5 sigma?",
    blind="shares that are off by less than 5 sigma of the run's units",
    subject="a split, an experiment or a sampled shadow",
    claim=Claim.CORRECTNESS,
    check=check,
)
