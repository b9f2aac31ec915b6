"""A pytest plugin that reruns scenarios whose timing was not kept on an overloaded machine, alone.

Reruns come after all other scenarios of a worker: a scenario that runs alone makes the other workers wait, and by then
few are left. The first run's failure is kept as a figure; the rerun's result counts.

pytest-xdist accepts reports only for the test that a worker is running, so reports of reruns travel in the worker's
final message.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from scenarios.framework.catalogue import MARK
from scenarios.framework.verdicts import LateError

_LATE = pytest.StashKey[str]()
_REASON = pytest.StashKey[str]()
_LATER = pytest.StashKey[list[pytest.Item]]()
_REPORTS = "scenarios_rerun"


def reason(item: pytest.Item) -> str:
    """How the first run failed, if this is the rerun; empty in the first run."""
    return item.stash.get(_REASON, "")


def may_rerun(item: pytest.Item) -> bool:
    """Whether this is the first run and other workers share the machine."""
    others = getattr(item.config, "workerinput", {}).get("workercount", 1) > 1
    return others and item.get_closest_marker(MARK) is not None and not reason(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Runs a scenario with its fixtures; after the last one, runs the reruns."""
    if not may_rerun(item):
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
        _rerun(later)
    return True


def _rerun(items: Sequence[pytest.Item]) -> None:
    """Reruns scenarios and keeps their reports in the worker's final message."""
    config, reports = items[0].config, list[dict[str, Any]]()
    for item, after in pairwise([*items, None]):
        assert item is not None
        item.stash[_REASON] = item.stash[_LATE]
        item.user_properties.clear()
        for report in runtestprotocol(item, log=False, nextitem=after):
            reports.append(config.hook.pytest_report_to_serializable(config=config, report=report))
    config.workeroutput[_REPORTS] = reports  # type: ignore[attr-defined]  # which pytest-xdist gives to workers


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over the reports of a worker's reruns when it has ended."""
    hook = node.config.hook
    for data in getattr(node, "workeroutput", {}).get(_REPORTS, ()):
        report = hook.pytest_report_from_serializable(config=node.config, data=data)
        report.node = node
        hook.pytest_runtest_logreport(report=report)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remembers scenarios that ended with :class:`LateError`."""
    report = yield
    if call.excinfo is not None and isinstance(call.excinfo.value, LateError) and may_rerun(item):
        item.stash[_LATE] = str(call.excinfo.value)
    return report
