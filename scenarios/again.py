"""A scenario for which the machine was too slow beside another worker's tries again, alone.

It does so after all others of its worker: whoever is alone makes the other workers wait, or waits for them, and by then
few of them are left. It is a plugin of pytest. What the first try came to is kept as a figure; only the second counts.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from _pytest.runner import runtestprotocol

from scenarios.verdicts import LateError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_LATE = pytest.StashKey[str]()
_AGAIN = pytest.StashKey[str]()
_LATER = pytest.StashKey[dict[pytest.Item, "Sequence[pytest.TestReport]"]]()


def why_again(item: pytest.Item) -> str:
    """What the first try came to, if this is the second and has to be alone; empty if it is the first."""
    return item.stash.get(_AGAIN, "")


def may_try_again(item: pytest.Item) -> bool:
    """Whether this is the first try, and other workers are there to blame."""
    others = getattr(item.config, "workerinput", {}).get("workercount", 1) > 1
    return others and not why_again(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Carries a scenario out, with its fixtures; after the last one also those that try again."""
    if not may_try_again(item):
        return None
    later = item.session.stash.setdefault(_LATER, {})
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem or next(iter(later), None))
    if _LATE in item.stash:
        later[item] = reports
    else:
        _report(item, reports)
    if nextitem is None:
        for each, after in pairwise([*later, None]):
            assert each is not None
            each.stash[_AGAIN] = each.stash[_LATE]
            each.user_properties.clear()
            later[each] = runtestprotocol(each, log=False, nextitem=after)
            _report(each, later.pop(each))
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Whoever has not come to a second try, as the session ended before, failed at the first."""
    try:
        return (yield)
    finally:
        for item, reports in session.stash.get(_LATER, {}).items():
            _report(item, reports)


def _report(item: pytest.Item, reports: Sequence[pytest.TestReport]) -> None:
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes that it was late."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, LateError) and may_try_again(item):
        item.stash[_LATE] = str(call.excinfo.value)
    return report
