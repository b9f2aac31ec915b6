"""A scenario for which the machine was too slow beside another worker's tries again, alone.

It does so after all others of its worker: whoever is alone makes the other workers wait, or waits for them, and by then
few of them are left. It is a plugin of pytest. What the first try came to is kept as a figure; only the second counts.

pytest-xdist takes reports only of the test that a worker is at, so those of second tries come with what a worker says
when it is done.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.runner import runtestprotocol

from scenarios.framework.verdicts import LateError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_LATE = pytest.StashKey[str]()
_AGAIN = pytest.StashKey[str]()
_LATER = pytest.StashKey[list[pytest.Item]]()
_REPORTS = "scenarios_again"


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
    later = item.session.stash.setdefault(_LATER, [])
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, log=False, nextitem=nextitem or next(iter(later), None))
    if _LATE in item.stash:
        later.append(item)
    else:
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    if nextitem is None and later:
        _try_again(later)
    return True


def _try_again(items: Sequence[pytest.Item]) -> None:
    """Leaves what comes of it to be taken from this worker when it is done."""
    config, reports = items[0].config, list[dict[str, Any]]()
    for item, after in pairwise([*items, None]):
        assert item is not None
        item.stash[_AGAIN] = item.stash[_LATE]
        item.user_properties.clear()
        for report in runtestprotocol(item, log=False, nextitem=after):
            reports.append(config.hook.pytest_report_to_serializable(config=config, report=report))
    config.workeroutput[_REPORTS] = reports  # type: ignore[attr-defined]  # which pytest-xdist gives to workers


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes that from a worker, if it has come to an end."""
    hook = node.config.hook
    for data in getattr(node, "workeroutput", {}).get(_REPORTS, ()):
        report = hook.pytest_report_from_serializable(config=node.config, data=data)
        report.node = node
        hook.pytest_runtest_logreport(report=report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Notes that it was late."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, LateError) and may_try_again(item):
        item.stash[_LATE] = str(call.excinfo.value)
    return report
