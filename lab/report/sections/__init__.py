"""Sections of a report, one module each, with ``NAME``, ``TITLE`` and ``view``, which computes what it shows.

The template of that name lays it out. A section with charts also has ``pictures(runs)``, which yields the charts that
become files, each with its origin. To add a section, add a module, a template, and an entry in SECTIONS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from lab.report.sections import answers, latency, machine, timeline, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lab.report.run import ReportedRun


class Section(Protocol):
    """The interface of a section's module."""

    @property
    def NAME(self) -> str:  # noqa: N802 (a module's constant)
        """Name of its template, without the suffix."""

    @property
    def TITLE(self) -> str:  # noqa: N802
        """Its heading."""

    def view(self, runs: Sequence[ReportedRun], /) -> Any:
        """The value that its template gets as ``view``."""


_IN_ORDER: tuple[Section, ...] = (latency, timeline, answers, verdicts, machine)

SECTIONS: Mapping[str, Section] = {section.NAME: section for section in _IN_ORDER}
"""Sections by name, in the order of the page; the outline precedes them."""
