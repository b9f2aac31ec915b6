"""Reports: one self-contained HTML page for people, made only from the folders of runs and benches.

Here belongs how evidence is shown. ``lab.checkers`` judges it, and ``lab.runs`` keeps it.
"""

from lab.report.bench import ReportedBench, is_of_benches, read_benches
from lab.report.comparison import compare_benches, compare_runs
from lab.report.page import render, write_album, write_report
from lab.report.run import ReportedRun, read_run, read_runs

__all__ = [
    "ReportedBench",
    "ReportedRun",
    "compare_benches",
    "compare_runs",
    "is_of_benches",
    "read_benches",
    "read_run",
    "read_runs",
    "render",
    "write_album",
    "write_report",
]
