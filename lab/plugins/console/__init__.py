"""The console: one live page on which requests flow, and verdicts tick.

Here belongs what the page shows, and the server that shows it to one person on this machine. Evidence comes from
the folders of runs, which ``lab.runs`` writes, and verdicts from ``lab.checkers``; its buttons run the ``lab`` command.
"""

from lab.plugins.console.actions import Actions
from lab.plugins.console.live import PLAY, Watcher
from lab.plugins.console.page import page_with
from lab.plugins.console.saved import SavedRuns
from lab.plugins.console.server import Console

__all__ = ["PLAY", "Actions", "Console", "SavedRuns", "Watcher", "page_with"]
