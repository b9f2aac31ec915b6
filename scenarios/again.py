"""A scenario for which the machine was too slow beside another worker's tries again, alone.

It is a plugin of pytest. What the first try came to is told, and kept as a figure; only the second counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from scenarios.verdicts import LateError

if TYPE_CHECKING:
    from collections.abc import Generator

_LATE = pytest.StashKey[str]()
_AGAIN = pytest.StashKey[str]()


def why_again(item: pytest.Item) -> str:
    """What the first try came to, if this is the second and has to be alone; empty if it is the first."""
    return item.stash.get(_AGAIN, "")


def may_try_again(item: pytest.Item) -> bool:
    """Whether this is the first try, and other workers are there to blame."""
    others = getattr(item.config, "workerinput", {}).get("workercount", 1) > 1
    return others and not why_again(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Carries a scenario out, once or twice, with its fixtures."""
    if not may_try_again(item):
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if late := item.stash.get(_LATE, ""):
        item.stash[_AGAIN] = late
        item.user_properties.clear()
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes that it was late."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, LateError) and may_try_again(item):
        item.stash[_LATE] = str(call.excinfo.value)
    return report
