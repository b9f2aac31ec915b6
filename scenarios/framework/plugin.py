"""The pytest plugin that runs scenarios: options, which cases run, in which order, and what a failure reports.

By default each xdist worker brings up its own lab and takes it down. With ``--lab NAME`` scenarios run, one after
the other, against a lab that is up. It touches no test without the mark: see :mod:`scenarios.entry`.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from lab import home
from lab.runtime import choose
from scenarios.entry import asked_runtime
from scenarios.framework import rerun
from scenarios.framework.catalogue import LONG, MARK, known_topologies, long_topologies, topologies_of
from scenarios.framework.console import make_display
from scenarios.framework.scheduling import balanced_order
from scenarios.framework.session import DISPLAY, ERROR, FOLDER, SCENARIO, asked_topologies
from scenarios.framework.verdicts import UNKNOWN

pytest_plugins = ["scenarios.framework.fixtures"]

_SESSION = "scenarios_session"
_LIMIT_S = 120.0
_SESSIONS_KEPT = 5  # one takes some 100 MB


def pytest_configure(config: pytest.Config) -> None:
    """Refuses topologies that scenarios cannot run on, and opens the display."""
    asked, known = asked_topologies(config), ",".join(known_topologies())
    for name in asked:
        if name not in known_topologies():
            raise pytest.UsageError(f"--topology: {name!r} is not a topology of the scenarios; write some of {known}")
    if not asked:
        raise pytest.UsageError(f"--topology: is empty; write some of {known}")
    from_controller: dict[str, Any] = getattr(config, "workerinput", {})
    session = from_controller.get(_SESSION) or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    runs = config.getoption("lab_runs") or home() / "runs" / "scenarios"
    config.stash[FOLDER] = runs.resolve() / session
    config.stash[DISPLAY] = make_display(from_controller.get("workerid"))
    config.pluginmanager.register(rerun)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Gives all workers the same session folder."""
    node.workerinput[_SESSION] = node.config.stash[FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes the display."""
    if DISPLAY in config.stash:
        config.stash[DISPLAY].close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Points ``latest`` to this session's folder, if there is one, and removes those of old sessions."""
    folder = session.config.stash[FOLDER]
    if folder.is_dir() and not hasattr(session.config, "workerinput"):
        latest = folder.parent / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
        for old in sorted(folder.parent.glob("[0-9]*Z"))[:-_SESSIONS_KEPT]:
            shutil.rmtree(old)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrizes a scenario that takes ``topology`` by the topologies that were asked for and that it is about."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark and "topology" in metafunc.fixturenames:
        about = topologies_of(mark.kwargs)
        asked = asked_topologies(metafunc.config)
        metafunc.parametrize("topology", [name for name in asked if about is None or name in about])


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Leaves out what is not asked for or not for this runtime, bounds times, and orders the rest for the workers.

    Bringing the lab up has deadlines of its own, as it may build an image; it does not count as a scenario's time.
    """
    long_on = _long_on(config)
    scenarios = [item for item in items if item.get_closest_marker(MARK)]
    for item in scenarios:
        if _topology(item) in long_on(item):
            item.add_marker(LONG)
        if config.pluginmanager.has_plugin("timeout"):
            timeout = item.get_closest_marker("timeout")
            limit_s = float(timeout.args[0] if timeout else config.getini("timeout") or _LIMIT_S)
            item.add_marker(pytest.mark.timeout(limit_s, func_only=True), append=False)
    left_out = {item for item in scenarios if not _is_wanted(item)}
    config.hook.pytest_deselected(items=[item for item in items if item in left_out])
    items[:] = [item for item in items if item not in left_out]
    yield  # -m and -k deselect
    if hasattr(config, "workerinput") and all(item.get_closest_marker(MARK) for item in items):
        cases = Counter(map(_claim, items))
        items[:] = balanced_order(
            items,
            config.workerinput["workercount"],
            takes_s=lambda item: _takes_s(item) / cases[_claim(item)],
            alone=_is_alone,
        )


def _is_wanted(item: pytest.Item) -> bool:
    """Whether a scenario and its topology were asked for, and run on the session's runtime, if that is known by now."""
    config, mark = item.config, item.get_closest_marker(MARK)
    if hasattr(item, "callspec") and not isinstance(item.callspec.params.get("topology", ""), str):
        return False  # pytest's mark of an empty list: none of its topologies was asked for
    if item.get_closest_marker(LONG) and not config.getoption("lab_long"):
        return False
    runtimes = mark.kwargs.get("runtimes") if mark else None
    if runtimes is None or config.getoption("lab_name") is not None:
        return True
    return choose(asked_runtime(config))[0] in runtimes


def _topology(item: pytest.Item) -> str:
    return str(item.callspec.params.get("topology", "")) if hasattr(item, "callspec") else ""


def _long_on(config: pytest.Config) -> Callable[[pytest.Item], Sequence[str]]:
    """Topologies on which a scenario counts as long; none where topologies or a lab were asked for by name."""
    if config.getoption("lab_topology") is not None or config.getoption("lab_name") is not None:
        return lambda _: ()
    on_this_runtime = long_topologies(choose(asked_runtime(config))[0])

    def of(item: pytest.Item) -> Sequence[str]:
        mark = item.get_closest_marker(MARK)
        return (*on_this_runtime, *(mark.kwargs.get("long_on", ()) if mark else ()))

    return of


def _claim(item: pytest.Item) -> tuple[str, str]:
    """A scenario on a topology; it may have several cases."""
    return item.nodeid.partition("[")[0], _topology(item)


def _is_alone(item: pytest.Item) -> bool:
    mark = item.get_closest_marker(MARK)
    said = {} if mark is None else mark.kwargs
    return said.get("alone", False) or _topology(item) in said.get("alone_on", ())


def _takes_s(item: pytest.Item) -> float:
    """Declared seconds of all cases on one topology."""
    mark = item.get_closest_marker(MARK)
    return 0.0 if mark is None else float(mark.kwargs["takes_s"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Lets idle workers steal scenarios, unless ``--dist`` asks for another scheduler."""
    from xdist.scheduler import WorkStealingScheduling  # noqa: PLC0415 (only xdist itself calls this hook)

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Runs a scenario's own code, and fails it as unknown if nobody saw what its faults did."""
    try:
        outcome = yield
        if SCENARIO in pyfuncitem.stash:
            pyfuncitem.stash[SCENARIO].check_faults_were_seen()
    except BaseException as error:
        pyfuncitem.stash[ERROR] = error
        raise
    return outcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the state of the lab to the report of a failure."""
    report = yield
    if report.when == "call" and report.failed and SCENARIO in item.stash:
        add_section = getattr(report.longrepr, "addsection", lambda *_: None)
        for name, content in item.stash[SCENARIO].surroundings():
            add_section(name, content)
    if report.when == "setup" and report.failed and UNKNOWN.upper() in str(report.longrepr):
        item.user_properties.append(("verdict", UNKNOWN))
        report.user_properties.append(("verdict", UNKNOWN))
    return report
