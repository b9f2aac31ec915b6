"""When the rules change, do exactly those units change their version that must?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from lab.checkers.checker import Checker
from lab.checkers.revision_timeline import Rules, by_chosen_model, reference, request
from lab.checkers.verdict import Claim, Outcome, TooFew, Verdict, Violation
from lab.measure.binomial import in_words, sigmas, tail

if TYPE_CHECKING:
    from lab.checkers.draws import Draw
    from lab.checkers.evidence import Evidence
    from lab.history import Record

NAME = "churn"

SIGMAS = 5
_MOST_CHANGES = 3

_Units = dict[tuple[str, ...], "Record"]


@dataclass(slots=True)
class _WeightChange:
    """One draw that both tables have, with its units.

    Attributes:
        before: the draw in the old table.
        after: the draw in the new table.
        units: that it decided under both.
        moved: units that changed their version, each with the request that shows it.
    """

    before: Draw
    after: Draw
    units: set[str] = field(default_factory=set)
    moved: dict[str, Record] = field(default_factory=dict)

    @property
    def ideal(self) -> float:
        """The smallest share of units that must move, 0 to 1: what the growing arms gain."""
        return sum(max(0, weight - self.before.weights.get(arm, 0)) for arm, weight in self.after.weights.items()) / 100

    def needless(self, old: str, new: str) -> bool:
        """Whether a unit moved from an arm that has not shrunk, or to one that has not grown."""
        gain = {arm: self.after.weights.get(arm, 0) - self.before.weights.get(arm, 0) for arm in (old, new)}
        return gain[old] >= 0 or gain[new] <= 0

    def excess(self) -> float:
        """Returns by how many sigma more units moved than must; 0 if no more did."""
        count, units = len(self.moved), len(self.units)
        return sigmas(tail(count, units, self.ideal)) if count > units * self.ideal else 0.0

    def __str__(self) -> str:
        moved, units = len(self.moved), len(self.units)
        share = f"{moved / units:.2%} for an ideal of {self.ideal:.0%}, {in_words(self.excess())} above"
        return f"{self.after}: {moved} of {units} units of {self.after.unit} moved ({share})"


def check(evidence: Evidence) -> Verdict | None:
    """Compares each unit's first answer under one revision with its first under the next.

    A unit is a use case with the values of all context fields that any of the run's tables reads for it. A request
    counts if only one revision was in force while it was in flight, and if the chosen version answered. Three rules:

    - a unit's version changes if and only if the two tables expect different ones;
    - under a draw that both tables have, a unit moves only from an arm that shrank to one that grew. Contiguous bucket
      ranges ensure this when adjacent arms exchange weight; an arm between them is shifted, which violates the rule;
    - of the units of such a draw, no larger share moves than the growing arms gain, to 5 sigma of the exact binomial
      distribution.

    Returns:
        None if requests were sent under fewer than two revisions; unknown if no unit was answered under two in a row.
    """
    seen = _seen(evidence)
    if len(seen) < 2:  # noqa: PLR2004 (it takes two)
        return None
    violations: list[Violation] = []
    changes: list[str] = []
    both = moved = 0
    for (old, old_units), (new, new_units) in pairwise(seen):
        weight_changes: dict[tuple[str, str, str], _WeightChange] = {}
        for unit in old_units.keys() & new_units.keys():
            before, after = old_units[unit], new_units[unit]
            both += 1
            has_moved = reference(before) != reference(after)
            moved += has_moved
            change = _weight_change(weight_changes, old.draw(before), new.draw(after))
            if change is not None:
                drawn_for = getattr(after, change.after.unit)
                change.units.add(drawn_for)
                if has_moved:
                    change.moved[drawn_for] = after
            message = _objection(old, before, new, after, change)
            if message:
                violations.append(Violation(NAME, after.sequence, after.request_id, message))
        for change in weight_changes.values():
            text = f"revision {old.number} to {new.number}, {change}"
            changes.append(text)
            if change.excess() > SIGMAS:
                example = min(change.moved.values(), key=lambda record: record.sequence)
                violations.append(Violation(NAME, example.sequence, example.request_id, f"{text}; this is one of them"))
    return _verdict(both, moved, changes, sorted(violations, key=lambda one: one.sequence))


def _seen(evidence: Evidence) -> list[tuple[Rules, _Units]]:
    """Returns the revisions under which requests were sent, in order, each with its units' first answers."""
    timeline = evidence.timeline
    sent: dict[int, list[Record]] = defaultdict(list)
    for record in evidence.records:
        rules = timeline.alone(record)
        if rules is not None:
            sent[rules.number].append(record)
    seen = [rules for rules in timeline.rules if rules.number in sent]
    fields = {
        use_case: sorted({field for rules in seen for field in rules.reads(use_case)})
        for use_case in {record.use_case for records in sent.values() for record in records}
    }
    return [(rules, _first_answers(sent[rules.number], fields)) for rules in seen]


def _first_answers(records: Iterable[Record], fields: Mapping[str, Sequence[str]]) -> _Units:
    units: _Units = {}
    for record in records:
        if by_chosen_model(record):
            unit = (record.use_case, *(getattr(record, field) for field in fields[record.use_case]))
            units.setdefault(unit, record)
    return units


def _weight_change(
    known: dict[tuple[str, str, str], _WeightChange], before: Draw | None, after: Draw | None
) -> _WeightChange | None:
    """Returns the change of the draw that decided the unit both times; None if there is no such draw."""
    if before is None or after is None or (before.salt, before.unit) != (after.salt, after.unit):
        return None
    return known.setdefault((after.use_case, before.rule, after.rule), _WeightChange(before, after))


def _objection(old: Rules, before: Record, new: Rules, after: Record, change: _WeightChange | None) -> str:
    """Returns the objection to a unit's two answers, empty if there is none."""
    got, gets = reference(before), reference(after)
    wanted, wants = reference(old.expected(before)), reference(new.expected(after))
    seen = f"{got} for {request(before)} under revision {old.number}, {gets} under revision {new.number}"
    if (got != gets) != (wanted != wants):
        tables = "both tables want the same" if wanted == wants else f"the tables want first {wanted}, then {wants}"
        return f"{'moved' if got != gets else 'did not move'}: {seen}; {tables}"
    if change is not None and got != gets and change.needless(got, gets):
        return f"moved needlessly: {seen}; by {change.after} no unit had to move from {got} to {gets}"
    return ""


def _verdict(both: int, moved: int, changes: Sequence[str], violations: Sequence[Violation]) -> Verdict:
    if not both:
        why = "no unit was answered under two revisions in a row"
        return Verdict(NAME, Outcome.UNKNOWN, f"{why}, so nothing is shown", too_few=TooFew(why, 2.0))
    shown = [*changes[:_MOST_CHANGES], *([f"and {len(changes) - _MOST_CHANGES} more"] * (len(changes) > _MOST_CHANGES))]
    summary = "; ".join([f"{moved} moved of {both} units answered under two revisions in a row", *shown])
    if violations:
        return Verdict(NAME, Outcome.INVALID, f"{len(violations)} wrongly; {summary}", tuple(violations))
    return Verdict(NAME, Outcome.VALID, summary)


CHECKER = Checker(
    name=NAME,
    question="When the rules change, do exactly those units change their version that must?",
    blind="units that were not answered under both revisions",
    subject="two revisions",
    claim=Claim.CORRECTNESS,
    check=check,
)
