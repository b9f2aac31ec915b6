"""Reports: one HTML page a person reads, drawn from the folders of runs and benches alone, and whole in itself.

Here belongs how evidence is shown. What it proves is for ``lab.checkers``, what is kept of a run for ``lab.runs``.
"""

from lab.report.album import write_album
from lab.report.bench import ReportedBench, is_of_benches, read_benches
from lab.report.comparison import compare_benches, compare_runs
from lab.report.page import render, write_report
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
