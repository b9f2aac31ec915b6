"""What tests of all rooms share.

Units of tests are processes, also where a Docker engine answers; tests that are about containers say so.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from lab.errors import LabError
from lab.lab import Lab
from lab.ops.reaper import reaping
from lab.registry import PLUGINS
from tests import tiers
from tests.distribution import ByLab, order_of
from tests.labs import TWO_CALLERS_ROUTES, TWO_CALLERS_SPEC, TWO_REPLICAS, SharedLabs, lab_up, unique_lab, write_spec
from tests.missing import missing
from tests.postgresql import Server, programs, running_server

_LOG_LINES = 40

# jsonschema's own checkers of IRIs, which no schema here asks for, take a second to import.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]  # None: cannot be imported


def pytest_configure(config: pytest.Config) -> None:
    """For this process, and all that it starts without their own environment."""
    os.environ["LAB_RUNTIME"] = "process"
    # A shell has what it runs in the background ignore Ctrl-C, and what that starts would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # An example that is slow because the machine is busy is not a failure.
    settings.register_profile("busy", settings(), deadline=None)
    settings.load_profile("busy")
    config.pluginmanager.register(tiers.Guard(), "guard")
    config.pluginmanager.register(SharedLabs(), "shared-labs")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByLab | None:
    """Deals tests out by the labs that they share, unless told otherwise by ``--dist``."""
    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return ByLab(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives each test its tier, and lets those that take long begin first."""
    tiers.mark(items)
    items.sort(key=lambda item: order_of(item.nodeid))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Without garbage collection, which would look again and again at what stays, and later leaves that out."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """After the whole suite, says which figures of the pages are older than the code that they measure."""
    if config.args == ["tests"] and config.option.markexpr != "unit" and not config.option.collectonly:
        from docs.site.age import outdated  # noqa: PLC0415 (imports Sphinx, for the whole suite's end alone)
        from docs.site.figures import read  # noqa: PLC0415

        for bench, why in outdated(read()).items():
            terminalreporter.write_line(f"old figures: {bench}: {why}: run make figures", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the units of a test's lab that do not run, and the ends of their logs, to the report of a failure."""
    report = yield
    if report.when == "call" and report.failed:
        labs = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, Lab)]
        for lab in labs:
            with suppress(LabError, OSError):  # it may be down
                ended = [unit.name for unit in lab.status().units if unit.state != "running"]
                logs = lab.units.last_log_lines(ended, _LOG_LINES)
                report.sections += [(f"{name} of lab {lab.name} does not run", "\n".join(logs[name])) for name in logs]
    return report


@pytest.fixture(scope="session", autouse=True)
def _reaper(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[None]:
    """However this process ends, nothing that a test has started outlives it: all of it is at home in this folder."""
    with ExitStack() as stack:
        with pytestconfig.pluginmanager.getplugin("guard").allowing():
            stack.enter_context(reaping(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture(autouse=True)
def _own_plugins() -> Iterator[None]:
    """Looking at a lab makes its plugins known to the process; no later test may know them."""
    before = os.environ.get(PLUGINS)
    yield
    if before is None:
        os.environ.pop(PLUGINS, None)
    else:
        os.environ[PLUGINS] = before


@pytest.fixture(scope="session")
def shared_labs(pytestconfig: pytest.Config) -> SharedLabs:
    """The labs that several modules share."""
    found = pytestconfig.pluginmanager.getplugin("shared-labs")
    assert isinstance(found, SharedLabs)
    return found


@pytest.fixture(scope="module")
def default_lab(shared_labs: SharedLabs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The default lab, which modules share, see :mod:`tests.distribution`: idle it takes half a core."""
    with shared_labs.lab("the default lab", lambda: lab_up(tmp_path_factory.mktemp("default-lab"))) as lab:
        yield lab


@pytest.fixture(scope="module")
def small_lab(shared_labs: SharedLabs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of six units that modules share, see :mod:`tests.distribution`."""

    def bring_up() -> AbstractContextManager[Lab]:
        home = tmp_path_factory.mktemp("small-lab")
        return lab_up(home, spec=write_spec(home, routes=TWO_REPLICAS))

    with shared_labs.lab("the small lab", bring_up) as lab:
        yield lab


@pytest.fixture(scope="module")
def two_callers_lab(shared_labs: SharedLabs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Likewise, of two callers, each with its own model, and certificates."""

    def bring_up() -> AbstractContextManager[Lab]:
        home = tmp_path_factory.mktemp("two-callers-lab")
        return lab_up(home, spec=write_spec(home, TWO_CALLERS_SPEC, TWO_CALLERS_ROUTES), security="mtls")

    with shared_labs.lab("the lab of two callers", bring_up) as lab:
        yield lab


@pytest.fixture(scope="session")
def _server() -> Iterator[Server]:
    if programs() is None:
        missing("PostgreSQL's server is missing: make postgres")
    with running_server() as server:
        yield server


@pytest.fixture
def postgresql(_server: Server) -> Server:
    """A real server, this worker's own; whoever stops it starts it again."""
    return _server


@pytest.fixture
def mini_spec(tmp_path: Path) -> Path:
    """The spec of a lab of five units."""
    return write_spec(tmp_path)


@pytest.fixture
def new_lab(tmp_path: Path) -> Iterator[Callable[[], Lab]]:
    """Makes labs that are taken down afterwards."""
    made: list[Lab] = []

    def make() -> Lab:
        made.append(unique_lab(tmp_path))
        return made[-1]

    yield make
    for lab in made:
        lab.down()


@pytest.fixture
def own_lab(new_lab: Callable[[], Lab]) -> Lab:
    """A lab of the test's own, which is not up."""
    return new_lab()


@pytest.fixture
def mini_lab(own_lab: Lab, mini_spec: Path) -> Lab:
    """A lab of five units of the test's own, which is up."""
    own_lab.up(spec=mini_spec, runtime="process")
    return own_lab
