"""Answers by model version, cluster and replica, and how other requests ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.report.bars import Bar, BarChart, BarGroup
from lab.report.scales import linear

if TYPE_CHECKING:
    import numpy.typing as npt

    from lab.report.run import ReportedRun

OWN_ANSWER = "the caller's default"
_MOST_BARS = 40


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers of one model version on one cluster.

    Attributes:
        version: e.g. ``cw-ranker@v2``, or :data:`OWN_ANSWER`.
        share: of all answers, 0 to 1.
        replicas: names and their numbers of answers, by name; empty for default answers.
    """

    version: str
    cluster: str
    count: int
    share: float
    replicas: Sequence[tuple[str, int]]

    @property
    def busiest(self) -> float:
        """Answers of the busiest replica, divided by the mean: 1 is even; 0 without replicas."""
        counts = [count for _, count in self.replicas]
        return max(counts) * len(counts) / sum(counts) if counts else 0.0


@dataclass(frozen=True, slots=True)
class NotAnswered:
    """Requests with one status.

    Attributes:
        message: their most frequent message.
    """

    status: str
    count: int
    message: str


def view(
    runs: Sequence[ReportedRun],
) -> list[tuple[ReportedRun, Sequence[Answered], Sequence[NotAnswered], BarChart | None]]:
    """Each run: answers by version and cluster, other requests by status, and how replicas share the answers."""
    return [(run, found := answered(run), not_answered(run), _spread(run, found)) for run in runs]


def pictures(runs: Sequence[ReportedRun]) -> Iterator[tuple[BarChart, str]]:
    """For each run with replicas to compare, how answers are spread over them."""
    for run, _, _, spread in view(runs):
        if spread:
            yield spread, run.origin


def answered(run: ReportedRun) -> list[Answered]:
    """Counts answers by version, cluster and replica."""
    by_place: dict[tuple[str, str], dict[str, int]] = {}
    names = ("model", "version", "cluster", "replica")
    for (model, version, cluster, replica), count in _counts(run, run.is_ok, names):
        by_place.setdefault((f"{model}@{version}" if model else OWN_ANSWER, cluster), {})[replica] = count
    combined = int(run.is_ok.sum())
    return [
        Answered(version, cluster, sum(counts.values()), sum(counts.values()) / combined, _by_name(counts))
        for (version, cluster), counts in sorted(by_place.items())
    ]


def _by_name(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted((name, count) for name, count in counts.items() if name)


def not_answered(run: ReportedRun) -> list[NotAnswered]:
    """Counts requests without an answer, by status."""
    messages: dict[str, dict[str, int]] = {}
    for (status, message), count in _counts(run, ~run.is_ok, ("status", "message")):
        messages.setdefault(status, {})[message] = count
    found = [NotAnswered(status, sum(of.values()), max(of, key=of.__getitem__)) for status, of in messages.items()]
    return sorted(found, key=lambda each: -each.count)


def _counts(
    run: ReportedRun, rows: npt.NDArray[np.bool_], names: Sequence[str]
) -> Iterator[tuple[tuple[str, ...], int]]:
    """For each combination of words in these columns, the number of rows that have it."""
    if not rows.any():
        return
    columns = [run.history.words(name) for name in names]
    number = np.zeros(int(rows.sum()), dtype=np.int64)
    for which, words in columns:
        number = number * len(words) + which[rows]
    for found, count in zip(*np.unique(number, return_counts=True), strict=True):
        rest, value = int(found), []
        for _, words in reversed(columns):
            rest, word = divmod(rest, len(words))
            value.append(words[word])
        yield tuple(reversed(value)), int(count)


def _spread(run: ReportedRun, found: Sequence[Answered]) -> BarChart | None:
    """How answers are spread over the replicas of each version and cluster; None without replicas to compare."""
    groups = [each for each in found if len(each.replicas) > 1]
    bars = sum(len(each.replicas) for each in groups)
    if not groups or bars > _MOST_BARS:
        return None
    return BarChart(
        f"Who answered, run {run.label}",
        linear("answers", max(count for each in groups for _, count in each.replicas)),
        [
            BarGroup(
                f"{each.version} on {each.cluster}: the busiest has {each.busiest:.2f} times the mean",
                [Bar(replica, run.colour, count, text=f"{count:,}") for replica, count in each.replicas],
            )
            for each in groups
        ],
        name=f"spread-{run.number}",
    )
