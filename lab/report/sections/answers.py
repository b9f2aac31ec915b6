"""Who answered, and how the other requests ended."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.load.summary import OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lab.history import Record
    from lab.report.run import ReportedRun

NAME = "answers"
TITLE = "Who answered"

OWN_ANSWER = "the caller's default"


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers of one model version on one cluster.

    Attributes:
        version: e.g. ``cw-ranker@v2``, or :data:`OWN_ANSWER`.
        share: of all answers, 0 to 1.
        replicas: names with their numbers of answers, by name; none for a default answer.
    """

    version: str
    cluster: str
    count: int
    share: float
    replicas: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """Requests with one status.

    Attributes:
        message: the most frequent of their messages.
    """

    status: str
    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Answers:
    """One run: those answered by version and cluster, the others from the most frequent status on."""

    run: ReportedRun
    answered: Sequence[Answered]
    not_answered: Sequence[NotAnswered]


def view(runs: Sequence[ReportedRun]) -> tuple[Answers, ...]:
    """Two tables a run."""
    return tuple(Answers(run, answered(run.records), not_answered(run.records)) for run in runs)


def answered(records: Sequence[Record]) -> list[Answered]:
    """Counts answers by who gave them."""
    by_place: dict[tuple[str, str], Counter[str]] = {}
    for record in records:
        if record.status == OK:
            version = f"{record.model}@{record.version}" if record.model else OWN_ANSWER
            by_place.setdefault((version, record.cluster), Counter())[record.replica] += 1
    in_all = sum(counts.total() for counts in by_place.values())
    return [
        Answered(version, cluster, counts.total(), counts.total() / in_all, _by_name(counts))
        for (version, cluster), counts in sorted(by_place.items())
    ]


def _by_name(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted((name, count) for name, count in counts.items() if name)


def not_answered(records: Sequence[Record]) -> list[NotAnswered]:
    """Counts requests without an answer by status."""
    messages: dict[str, Counter[str]] = {}
    for record in records:
        if record.status != OK:
            messages.setdefault(record.status, Counter())[record.message] += 1
    found = [NotAnswered(status, counts.total(), counts.most_common(1)[0][0]) for status, counts in messages.items()]
    return sorted(found, key=lambda each: -each.count)
