"""What all sessions of pytest have in common here."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """See :class:`Honest`."""
    config.pluginmanager.register(Honest())


class Honest:
    """A session in which pytest itself or a plugin failed does not pass.

    pytest-xdist 3.8 ends with exit status 0 if that happens in a worker: what the worker had still to run or to report
    is missing, and all the rest may have passed.
    """

    def __init__(self) -> None:
        self._failed = False

    def pytest_internalerror(self) -> None:
        """Something failed that is not a test."""
        self._failed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """The last word on the exit status."""
        if self._failed:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
