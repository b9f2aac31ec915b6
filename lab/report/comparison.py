"""Compares two runs, or two calls of a bench, figure by figure: is there a difference?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import RunError
from lab.measure import compare
from lab.measure.single_run_intervals import Figure, difference, ratio
from lab.report.conditions import conditions, differing, in_words

if TYPE_CHECKING:
    from lab.measure.findings import Ran
    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun

NO_ROUNDS = (
    "The two were measured one after another and share no rounds: a change in the machine's load looks like a "
    "difference between them. Arms of one bench, measured in the same rounds, are better evidence."
)

SAME_TIME = "Both were sent at the same time, so each also waited for the processor time that the other took."


@dataclass(frozen=True, slots=True)
class Span:
    """An estimate and its interval, whose unknown ends are infinite.

    Attributes:
        count: n; 0 for a difference or a ratio.
    """

    estimate: float
    low: float
    high: float
    count: int = 0

    def to_document(self) -> dict[str, Any]:
        """As JSON, with null for infinity."""
        return {name: value if math.isfinite(value) else None for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One figure of both A and B.

    Attributes:
        name: e.g. ``p99``.
        unit: e.g. ``ms``.
        difference: B − A.
        ratio: B / A.
    """

    name: str
    unit: str
    a: Span
    b: Span
    difference: Span
    ratio: Span

    @property
    def is_distinguishable(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        return not self.difference.low <= 0 <= self.difference.high

    @property
    def verdict(self) -> str:
        """In words."""
        if not self.is_distinguishable:
            return "not distinguishable"
        return "B is more" if self.difference.estimate > 0 else "B is less"

    def to_document(self) -> dict[str, Any]:
        """As JSON has it."""
        spans = {name: getattr(self, name).to_document() for name in ("a", "b", "difference", "ratio")}
        return {"name": self.name, "unit": self.unit, **spans, "distinguishable": self.is_distinguishable}


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of A with B.

    Attributes:
        a: name of A.
        b: name of B.
        figures: those that both have.
        differs: conditions other than the topology in which they differ: name, A's, B's.
        warnings: what else a reader must know before believing a difference.
    """

    a: str
    b: str
    figures: Sequence[Compared]
    differs: Sequence[tuple[str, str, str]]
    warnings: Sequence[str]

    @property
    def differs_besides(self) -> str:
        """Those conditions in one line; empty if there are none."""
        return f"also differs in: {in_words(self.differs)}" if self.differs else ""

    @property
    def counts(self) -> str:
        """The n of A and of B: ``n = 400 and 1,200``, or their ranges."""
        of = [sorted({getattr(figure, side).count for figure in self.figures}) for side in ("a", "b")]
        return "n = " + " and ".join(
            " to ".join(f"{end:,}" for end in dict.fromkeys((each[0], each[-1]))) for each in of
        )

    def to_document(self) -> dict[str, Any]:
        """As ``--json`` has it."""
        return {
            "a": self.a,
            "b": self.b,
            "comparable": not self.differs,
            "differs_besides": [{"name": name, "a": one, "b": other} for name, one, other in self.differs],
            "warnings": list(self.warnings),
            "figures": [each.to_document() for each in self.figures],
        }


def compare_runs(a: ReportedRun, b: ReportedRun) -> Comparison:
    """Compares two runs, usually of different topologies."""
    figures = [_compared(name, "ms", one, b.figures[name]) for name, one in a.figures.items() if name in b.figures]
    if a.failed and b.failed:
        figures.append(_compared("failed", "share", a.failed, b.failed))
    warnings = [
        f"{run.label} ({letter}) is {run.result.outcome}: {'; '.join(run.reasons)}"
        for letter, run in (("A", a), ("B", b))
        if run.result.outcome != "valid"
    ]
    if not figures:
        warnings.append("There is nothing to compare: one of the two sent no request.")
    together = a.start_ns < b.until_ns and b.start_ns < a.until_ns
    return Comparison(
        a=f"{a.plan.topology}, {a.folder}",
        b=f"{b.plan.topology}, {b.folder}",
        figures=figures,
        differs=differing(conditions(a), conditions(b)),
        warnings=[*warnings, SAME_TIME if together else NO_ROUNDS],
    )


def compare_benches(a: Sequence[ReportedBench], b: Sequence[ReportedBench], names: tuple[str, str]) -> list[Comparison]:
    """Compares the benches that are in both.

    Raises:
        RunError: they have none in common.
    """
    pairs = [(one, other) for one in a for other in b if one.name == other.name]
    if not pairs:
        there = " and ".join(", ".join(each.name for each in of) for of in (a, b))
        raise RunError(f"{names[0]} and {names[1]} have no bench in common ({there}); name two of the same bench")
    return [_compare_bench(one, other, names) for one, other in pairs]


def _compare_bench(a: ReportedBench, b: ReportedBench, names: tuple[str, str]) -> Comparison:
    figures = []
    for arm, values in a.rounds.items():
        if values and b.rounds.get(arm):
            one, other = (compare.median(each, seed=0) for each in (values, b.rounds[arm]))
            figures.append(_compared(arm, a.unit, one, other))
    claims = {claim.text: claim for claim in b.claims}
    figures += [
        _compared(claim.text, "", claim.figure, claims[claim.text].figure) for claim in a.claims if claim.text in claims
    ]
    warnings = [NO_ROUNDS]
    if len(figures) >= _MANY:
        by_chance = round(len(figures) * (1 - compare.CONFIDENCE))
        warnings.append(
            f"Of {len(figures)} figures, about {by_chance} would be called distinguishable even if none differed."
        )
    for letter, bench in (("A", a), ("B", b)):
        warnings += [f"{letter}: {control.doubt}" for control in bench.controls if control.doubt]
    return Comparison(
        a=f"{a.name}, {names[0]}",
        b=f"{b.name}, {names[1]}",
        figures=figures,
        differs=_cards(a.ran, b.ran),
        warnings=warnings,
    )


_MANY = 20  # of this many, one is expected to look different by chance


def _cards(a: Ran | None, b: Ran | None) -> list[tuple[str, str, str]]:
    if a is None or b is None:
        return []
    names = dict.fromkeys((*a.machine, *b.machine))
    cards = ({name: ran.machine.get(name, "not written down") for name in names} for ran in (a, b))
    return differing(*cards)


def _compared(name: str, unit: str, a: Figure | compare.Interval, b: Figure | compare.Interval) -> Compared:
    return Compared(
        name=name,
        unit=unit,
        a=_span(a),
        b=_span(b),
        difference=Span(*difference(b, a)),
        ratio=Span(*ratio(b, a)),
    )


def _span(of: Figure | compare.Interval) -> Span:
    count = of.rounds if isinstance(of, compare.Interval) else of.count
    return Span(of.estimate, of.low, of.high, count)
