"""The charts of a report as PNG files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.report.cost import charts, cost
from lab.report.picture import file_name, to_svg, write_pictures
from lab.report.sections import SECTIONS
from lab.report.sections.blast_radius import BENCH, blasts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lab.report.bench import ReportedBench
    from lab.report.run import ReportedRun


def pictures(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench]) -> Iterator[tuple[str, str]]:
    """Each chart's file name and SVG document. Benches of the same name are numbered."""
    for number, bench in enumerate(benches, 1):
        again = sum(other.name == bench.name for other in benches) > 1
        for chart in bench.charts:
            prefix = f"{bench.name}-{number}" if again else bench.name
            yield f"{prefix}-{file_name(chart)}", to_svg(chart, bench.origin)
    for number, each in enumerate(blasts(runs, ()), 1):
        yield f"{BENCH}-{number}-{file_name(each.chart)}", to_svg(each.chart, each.origin)
    for chart in charts(cost(runs, benches)):
        yield file_name(chart), to_svg(chart)
    for section in SECTIONS.values() if runs else ():
        if of_section := getattr(section, "pictures", None):
            for chart, origin in of_section(runs):
                yield file_name(chart), to_svg(chart, origin)


def write_album(runs: Sequence[ReportedRun], benches: Sequence[ReportedBench], folder: Path) -> list[Path]:
    """Writes every chart of a report as a PNG file, and returns their paths.

    Raises:
        RunError: a file cannot be written.
    """
    return [path for name, svg in pictures(runs, benches) for path in write_pictures(svg, folder / name, (".png",))]
