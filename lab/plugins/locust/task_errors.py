"""Logs the first error of each kind that tasks of a locustfile raise, and counts the others.

A task that raises at once is tried again at once, tens of thousands of times a second, and Locust logs a traceback of
each.
"""

from __future__ import annotations

import logging
import traceback
from collections import Counter

_LOGGERS = ("locust.user.task", "locust.user.users")
_MAX_KINDS = 20
_log = logging.getLogger(__name__)


class TaskErrors(logging.Filter):
    """Passes the first log record of each kind of error; a kind is a class and the line that raised it."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()

    def install(self) -> None:
        """Filters what Locust logs of tasks."""
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log a record: one without an error, or the first of its kind."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        error = next((each for each in arguments if isinstance(each, Exception)), None)
        if error is None:
            return True
        kind = _kind(error)
        if kind not in self._counts and len(self._counts) >= _MAX_KINDS:
            kind = "errors of other kinds"
        self._counts[kind] += 1
        return self._counts[kind] == 1

    def report(self) -> None:
        """Logs how often each kind was raised, if more than once."""
        for kind, count in self._counts.most_common():
            if count > 1:
                _log.error("%s: raised %s times, logged once", kind, f"{count:,}")
        self._counts.clear()


def _kind(error: Exception) -> str:
    frame = next(reversed(traceback.extract_tb(error.__traceback__)), None)
    return f"{type(error).__name__} at {frame.filename}:{frame.lineno}" if frame else type(error).__name__
