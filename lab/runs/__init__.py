"""Runs: load driven through a lab that is up, and the folder with all evidence of it.

``lab.load`` decides what is sent when; ``lab.checkers`` judges the evidence.
"""

from lab.runs.background_load import background_load
from lab.runs.drive import LoadOptions, RunContext, drive
from lab.runs.judging import Objectives, RunResult, judge
from lab.runs.parallel import ParallelResult, drive_parallel, runs_in

__all__ = [
    "LoadOptions",
    "Objectives",
    "ParallelResult",
    "RunContext",
    "RunResult",
    "background_load",
    "drive",
    "drive_parallel",
    "judge",
    "runs_in",
]
