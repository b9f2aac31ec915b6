"""Sections of a report. One module each, with ``NAME``, ``TITLE`` and ``view``, which finds what is to be shown.

The template of its name shows it. A section with charts also has ``pictures(runs)``: the charts that become files, and
for each where its figures are from. To add a section: a module, a template, an entry in SECTIONS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lab.report.sections import answers, latency, machine, timeline, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.report.run import ReportedRun


class Section(Protocol):
    """What a section's module has."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a module's constant)
        """Of its template, without the ending."""

    @property
    def TITLE(self) -> str:  # noqa: N802
        """Its heading."""

    def view(self, runs: Sequence[ReportedRun], /) -> Any:
        """What its template shows, as ``view``."""


_IN_ORDER: tuple[Section, ...] = (latency, timeline, answers, verdicts, machine)

SECTIONS: Mapping[str, Section] = {section.NAME: section for section in _IN_ORDER}
"""The catalogue by name, in the order of the page, on top of which the verdicts stand in short."""
