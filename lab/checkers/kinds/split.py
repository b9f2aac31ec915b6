"""Does each arm of a split, an experiment or a shadow get its share of the units?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.in_force import InForce, by_chosen_model, reference
from lab.checkers.verdict import Outcome, Verdict, Violation
from lab.measure.binomial import in_words, least_trials, sigmas, tail

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "split"

SIGMAS = 5
_COPIED, _NOT_COPIED = "copied to the shadow", "not copied"


@dataclass(slots=True)
class _Claim:
    """One draw under one revision, and the arm of each unit that came to it; of one never answered, none.

    Attributes:
        name: in words.
        unit: what is drawn for, in words.
        first: the first request that came to it.
        arms: of each unit.
        examples: the first request that each arm answered.
    """

    name: str
    unit: str
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
    """What one arm got.

    Attributes:
        count: its units.
        lost: units that nobody answered: any of them may have been this arm's.
    """

    claim: _Claim
    arm: str
    count: int
    lost: int

    @property
    def weight(self) -> int:
        return self.claim.weights.get(self.arm, 0)

    @property
    def units(self) -> int:
        return len(self.claim.arms)

    def off(self) -> tuple[float, float]:
        """How many sigma the share is off: at the least, and at the most, by whose the lost units were."""
        share = self.weight / 100
        ends = [sigmas(tail(count, self.units, share)) for count in (self.count, self.count + self.lost)]
        crosses = self.count <= self.units * share <= self.count + self.lost
        return (0.0 if crosses else min(ends)), max(ends)

    def __str__(self) -> str:
        text = (
            f"{self.claim.name}: {self.arm} has {self.count} of {self.units} {self.claim.unit} "
            f"({self.count / self.units:.2%} for {self.weight}%, {in_words(self.off()[0])})"
        )
        return f"{text}; {self.lost} of them got no answer" if self.lost else text


def check(evidence: Evidence) -> Verdict | None:
    """Counts, under each revision, the distinct units that each arm has answered.

    Only requests count during which one revision alone was in force. A unit is a value of the field that the rule
    draws for; for a shadow, it is a request. Pinned requests are not drawn, and what a fallback or the caller itself
    answered tells nothing of the draw. Cells that use the same version are one arm.

    The bound is that of the exact binomial distribution: no share may be as unlikely as 5 sigma of a normal one (a
    chance of 1 in 3.5 million a side). A draw is judged once it has so many units that an arm without any would be
    beyond it: 22 for halves, 294 for 5 %, 1,499 for 1 %. With fewer units, a share can only be found to be wrong.

    Returns:
        None if no request came to a draw. Unknown if no draw had units enough, or if units without an answer could
        make the difference.
    """
    claims, drawn = _claims(evidence)
    if not drawn:
        return None
    shares = [share for claim in claims for share in claim.shares()]
    wrong = [share for share in shares if share.off()[0] > SIGMAS]
    violations = tuple(sorted((_violation(share) for share in wrong), key=lambda one: one.sequence))
    judged = [claim for claim in claims if len(claim.arms) >= _enough(claim)]
    farthest = max(shares, key=lambda share: share.off(), default=None)
    summary = f"{len(judged)} of {len(claims)} draws had units enough to judge"
    if farthest is not None:
        summary += f"; farthest off: {farthest}"
    if violations:
        summary = f"{len(violations)} shares off by more than {SIGMAS} sigma; {summary}"
        return Verdict(NAME, Outcome.INVALID, summary, violations)
    open_ones = [share for claim in judged for share in claim.shares() if share.off()[1] > SIGMAS]
    if not judged or open_ones:
        return Verdict(NAME, Outcome.UNKNOWN, summary)
    return Verdict(NAME, Outcome.VALID, summary)


def _claims(evidence: Evidence) -> tuple[list[_Claim], bool]:
    """All draws for which one revision alone was responsible, and whether any request came to a draw at all."""
    in_force = InForce(evidence.revisions)
    copied = None if evidence.copies is None else frozenset[str]().union(*evidence.copies.values())
    claims: dict[tuple[int, str, str], _Claim] = {}
    drawn = False
    for record in evidence.records:
        found = () if record.override else in_force.during(record)
        for rules in found:
            arm = reference(record) if by_chosen_model(record) else ""
            draw = rules.draw(record)
            percent = rules.shadow_percent(record.use_case) if arm and copied is not None else 0
            drawn = drawn or bool(draw or percent)
            if len(found) > 1:
                continue
            if draw is not None:
                key = (rules.number, record.use_case, draw.rule)
                if key not in claims:
                    name = f"{draw}, revision {rules.number}"
                    claims[key] = _Claim(name, f"units of {draw.unit}", draw.weights, record)
                claims[key].add(getattr(record, draw.unit), arm, record)
            if percent and copied is not None:
                key = (rules.number, record.use_case, "")
                if key not in claims:
                    name = f"shadow of {record.use_case}, revision {rules.number}"
                    weights = {_COPIED: percent, _NOT_COPIED: 100 - percent}
                    claims[key] = _Claim(name, "requests", weights, record)
                is_copied = bool(record.shadow) or record.request_id in copied
                claims[key].add(record.request_id, _COPIED if is_copied else _NOT_COPIED, record)
    return list(claims.values()), drawn


def _enough(claim: _Claim) -> int:
    return max(least_trials(weight / 100, SIGMAS) for weight in claim.weights.values())


def _violation(share: _Share) -> Violation:
    record = share.claim.examples.get(share.arm, share.claim.first)
    return Violation(NAME, record.sequence, record.request_id, str(share))


CHECKER = Checker(
    name=NAME,
    question="Does each arm get its share of the units, to 5 sigma?",
    subject="a split, an experiment or a sampled shadow",
    check=check,
)
