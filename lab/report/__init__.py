"""Reports: one HTML page a person reads, drawn from the folders of runs alone, and whole in itself.

Here belongs how evidence is shown. What it proves is for ``lab.checkers``, what is kept of a run for ``lab.runs``.
"""

from lab.report.page import render, write_report
from lab.report.run import ReportedRun, read_run

__all__ = ["ReportedRun", "read_run", "render", "write_report"]
