"""Sections of a report on runs, one module each, with ``view``, which computes what the section shows.

The template of its name lays it out. To add a section, add a module, a template, and an entry in SECTIONS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.report.sections import answers, latency, machine, timeline, verdicts

if TYPE_CHECKING:
    from lab.report.picture import AnyChart
    from lab.report.run import ReportedRun

    View = Callable[[Sequence[ReportedRun]], Any]
    Pictures = Callable[[Sequence[ReportedRun]], Iterator[tuple[AnyChart, str]]]


@dataclass(frozen=True, slots=True)
class Section:
    """A section.

    Attributes:
        title: its heading.
        view: computes the value that its template gets as ``view``.
        pictures: yields the charts that become files, each with its origin.
    """

    title: str
    view: View
    pictures: Pictures = lambda _: iter(())


SECTIONS: Mapping[str, Section] = {
    "latency": Section("Latency", latency.view, latency.pictures),
    "timeline": Section("Time line", timeline.view, timeline.pictures),
    "answers": Section("Who answered", answers.view, answers.pictures),
    "verdicts": Section("What was driven, and what checkers say", verdicts.view),
    "machine": Section("Machine", machine.view),
}
"""Sections by the name of their template, in the order of the page; the outline precedes them."""
