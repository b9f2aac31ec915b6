"""Runs: load driven through a lab that is up, and the folder in which all evidence of it stays.

What a request is and when it is sent belongs to ``lab.load``; what it proves belongs to ``lab.checkers``.
"""

from lab.runs.drive import LoadOptions, drive
from lab.runs.folder import RunResult, judge
from lab.runs.locustfile import LocustOptions
from lab.runs.own_checker import load_checker

__all__ = ["LoadOptions", "LocustOptions", "RunResult", "drive", "judge", "load_checker"]
