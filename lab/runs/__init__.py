"""Runs: load driven through a lab that is up, and the folder in which all evidence of it stays.

What a request is and when it is sent belongs to ``lab.load``; what it proves belongs to ``lab.checkers``.
"""

from lab.runs.background_load import background_load
from lab.runs.drive import LoadOptions, Stage, drive
from lab.runs.folder import RunResult, judge
from lab.runs.locustfile import LocustOptions
from lab.runs.parallel import TogetherResult, drive_together, runs_in

__all__ = [
    "LoadOptions",
    "LocustOptions",
    "RunResult",
    "Stage",
    "TogetherResult",
    "background_load",
    "drive",
    "drive_together",
    "judge",
    "runs_in",
]
