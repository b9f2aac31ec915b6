"""Runs: load driven through a lab that is up, and the folder in which all evidence of it stays.

What a request is and when it is sent belongs to ``lab.load``; what it proves belongs to ``lab.checkers``.
"""

from lab.runs.drive import LoadOptions, Stage, drive
from lab.runs.driven import driven
from lab.runs.folder import RunResult, judge
from lab.runs.locustfile import LocustOptions
from lab.runs.own_checker import load_checker
from lab.runs.together import TogetherResult, drive_together, runs_in

__all__ = [
    "LoadOptions",
    "LocustOptions",
    "RunResult",
    "Stage",
    "TogetherResult",
    "drive",
    "drive_together",
    "driven",
    "judge",
    "load_checker",
    "runs_in",
]
