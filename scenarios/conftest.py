"""Which lab the scenarios run against, and what they have at hand.

By default each xdist worker brings up a lab of its own and takes it down. With ``--lab NAME`` they run, one after the
other, against a lab that is up.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.errors import DeadlineError
from lab.lab import CHECKOUT, Lab
from lab.ops.reaper import guarded
from lab.runtime import choose
from scenarios.framework import rerun
from scenarios.framework.catalogue import LONG, LONG_ON, MARK, RUNTIMES, TOPOLOGIES
from scenarios.framework.console import make_teller
from scenarios.framework.machine_lock import Turn, taking_turns
from scenarios.framework.scenario import Scenario, Teller, folder_name
from scenarios.framework.scheduling import dealt
from scenarios.framework.steady import ROUTES, SteadyState, settle
from scenarios.framework.steps import own_lab
from scenarios.framework.verdicts import INVALID, UNKNOWN, LateError, UnknownError, verdict_on

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

_SESSION = "scenarios_session"
_SMALL_ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 2s
    default: cw-ranker@v1
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
clusters:
  ml-cluster-1: {replicas: 2}
"""
_SESSIONS_KEPT = 5  # one takes some 100 MB
_ALL = ",".join(TOPOLOGIES)
_STEADY_AT = pytest.StashKey[float]()
_STEADY_FOR_S = 0.5  # what was seen after one scenario need not be looked for before the next
_TELLER = pytest.StashKey[Teller]()
_FOLDER = pytest.StashKey[Path]()
_SCENARIO = pytest.StashKey[Scenario]()
_ERROR = pytest.StashKey[BaseException]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the scenarios."""
    parser.addoption("--runtime", default="auto", help="how units run: process, compose, or auto")
    parser.addoption("--lab", default=None, help="name of a lab that is up, instead of bringing one up")
    parser.addoption("--topology", default=_ALL, help="which ways to take, separated by commas")
    parser.addoption("--long", action="store_true", help="run also those that take minutes")
    parser.addoption(
        "--runs", type=Path, default=CHECKOUT / "runs" / "scenarios", help="where scenarios leave their runs"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuses what no scenario is about, and makes ready to show those that there are."""
    known = [*TOPOLOGIES, "mesh-unleased"]
    for name in _topologies(config):
        if name not in known:
            raise pytest.UsageError(
                f"--topology: {name!r} is no topology of the scenarios; write some of {','.join(known)}"
            )
    if not _topologies(config):
        raise pytest.UsageError(f"--topology: is empty; write some of {','.join(known)}")
    theirs: dict[str, Any] = getattr(config, "workerinput", {})
    session = theirs.get(_SESSION) or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    config.stash[_FOLDER] = config.getoption("--runs").resolve() / session
    config.stash[_TELLER] = make_teller(theirs.get("workerid"))
    config.pluginmanager.register(rerun)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers leave what they leave in one folder."""
    node.workerinput[_SESSION] = node.config.stash[_FOLDER].name


def pytest_unconfigure(config: pytest.Config) -> None:
    """Closes what shows them."""
    if _TELLER in config.stash:
        config.stash[_TELLER].close()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Lets ``latest`` point to what was left, if anything was, and removes what older sessions left."""
    folder = session.config.stash[_FOLDER]
    if folder.is_dir() and not hasattr(session.config, "workerinput"):
        latest = folder.parent / "latest"
        latest.unlink(missing_ok=True)
        latest.symlink_to(folder.name)
        for old in sorted(folder.parent.glob("[0-9]*Z"))[:-_SESSIONS_KEPT]:
            shutil.rmtree(old)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a scenario once for each topology that was asked for and that it is about, if it takes one."""
    if "topology" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker(MARK)
        about = mark.kwargs.get("topologies") if mark else None
        asked = _topologies(metafunc.config)
        metafunc.parametrize("topology", [name for name in asked if about is None or name in about])


def _topologies(config: pytest.Config) -> list[str]:
    return [name for name in dict.fromkeys(config.getoption("--topology").split(",")) if name]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    """Leaves the long ones out unless they are asked for, bounds each by itself, and deals what is left to the workers.

    Bringing the lab up has deadlines of its own: it may include an image to build, and is no scenario's time.
    """
    long_on = _long_on(config)
    for item in items:
        if _topology(item) in long_on(item):
            item.add_marker(LONG)
        said = item.get_closest_marker("timeout")
        limit_s = float(said.args[0] if said else config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(limit_s, func_only=True), append=False)
        if item.get_closest_marker(LONG) and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: give --long"))
    yield  # what was not asked for by -m and -k is left out
    if hasattr(config, "workerinput"):
        cases = Counter(map(_claim, items))
        items[:] = dealt(
            items,
            config.workerinput["workercount"],
            takes_s=lambda item: _takes_s(item) / cases[_claim(item)],
            alone=_is_alone,
        )


def _topology(item: pytest.Item) -> str:
    return str(item.callspec.params.get("topology", "")) if hasattr(item, "callspec") else ""


def _long_on(config: pytest.Config) -> Callable[[pytest.Item], Sequence[str]]:
    """Topologies on which a scenario is one of the long ones; none where topologies were asked for by name."""
    if config.getoption("--topology") != _ALL or config.getoption("--lab") is not None:
        return lambda _: ()
    on_this_runtime = LONG_ON[choose(config.getoption("--runtime"))[0]]

    def of(item: pytest.Item) -> Sequence[str]:
        mark = item.get_closest_marker(MARK)
        return (*on_this_runtime, *(mark.kwargs.get("long_on", ()) if mark else ()))

    return of


def _claim(item: pytest.Item) -> tuple[str, str]:
    """A scenario on a topology, of which there may be several cases."""
    return item.nodeid.partition("[")[0], _topology(item)


def _is_alone(item: pytest.Item) -> bool:
    mark = item.get_closest_marker(MARK)
    return mark is not None and _topology(item) in mark.kwargs.get("alone_on", ())


def _takes_s(item: pytest.Item) -> float:
    """What a scenario says of all its cases on one topology; 0 if it is not to run."""
    mark = item.get_closest_marker(MARK)
    return 0.0 if mark is None or item.get_closest_marker("skip") else float(mark.kwargs["takes_s"])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A worker that is done takes over what another has not begun, unless another way was asked for."""
    from xdist.scheduler import WorkStealingScheduling  # noqa: PLC0415 (it is there, as it asks)

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


@pytest.fixture(scope="session", autouse=True)
def _guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """However this process ends, no lab that it has brought up outlives it."""
    with guarded(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def turn(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Turn]:
    """This machine, which all workers share."""
    own = tmp_path_factory.getbasetemp()
    with taking_turns((own.parent if hasattr(pytestconfig, "workerinput") else own) / "turn.lock") as turn:
        yield turn


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, turn: Turn) -> Iterator[Lab]:
    """A lab that is up."""
    name = request.config.getoption("--lab")
    if name is not None:
        if hasattr(request.config, "workerinput"):
            pytest.exit("--lab shares one lab, and scenarios publish: run them one after the other, without -n")
        yield Lab(name)
        return
    lab = Lab(f"scenarios-{secrets.token_hex(3)}", home=tmp_path_factory.mktemp("lab"))
    try:
        with turn.shared():
            lab.up(runtime=request.config.getoption("--runtime"))
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def topologies(pytestconfig: pytest.Config) -> list[str]:
    """All ways from caller to model that were asked for; ``topology`` is each of them."""
    return _topologies(pytestconfig)


@pytest.fixture(scope="session")
def steady(lab: Lab, topologies: list[str]) -> SteadyState:
    """What the lab is like when nothing has been done to it."""
    return SteadyState.of(lab, topologies)


@pytest.fixture(autouse=True)
def _in_turn(request: pytest.FixtureRequest, lab: Lab, turn: Turn) -> Iterator[None]:  # noqa: ARG001 (it is up by then)
    with turn.shared(), turn.alone() if rerun.why_again(request.node) else nullcontext():
        yield


@pytest.fixture(scope="session")
def runtime(lab: Lab) -> str:
    """What its units run as."""
    return lab.status().runtime


@pytest.fixture(autouse=True)
def scenario(
    request: pytest.FixtureRequest,
    lab: Lab,
    runtime: str,
    steady: SteadyState,
    _in_turn: None,
) -> Iterator[Scenario]:
    """The scenario itself: its steps and its faults. The lab is steady before and after it."""
    item = request.node
    mark = item.get_closest_marker(MARK)
    if mark and runtime not in mark.kwargs.get("runtimes", RUNTIMES):
        pytest.skip(f"is about {', '.join(mark.kwargs['runtimes'])} alone; this lab is on {runtime}")
    case = item.callspec if hasattr(item, "callspec") else None
    told = Scenario(
        lab=lab,
        folder=item.config.stash[_FOLDER]
        / folder_name(item.module.__name__.rpartition(".")[2], item.originalname, case.id if case else ""),
        module=item.module.__name__.rpartition(".")[2],
        name=item.originalname,
        case=case.id if case else "",
        topology=case.params.get("topology", "") if case else "",
        runtime=runtime,
        teller=item.config.stash[_TELLER],
    )
    item.stash[_SCENARIO] = told
    if _ERROR in item.stash:
        del item.stash[_ERROR]  # of the first try
    if first := rerun.why_again(item):
        told.figure("tried again alone", first)
    told.teller.begin(f"{told.module.removeprefix('test_')}: {item.name.removeprefix('test_').replace('_', ' ')}")
    if time.monotonic() - item.config.stash.get(_STEADY_AT, -math.inf) > _STEADY_FOR_S:
        try:
            steady.wait(lab)
        except DeadlineError as error:
            told.teller.end()
            raise UnknownError(f"before it began, {error}") from None
    try:
        yield told
        left = settle(lab, steady)
        item.config.stash[_STEADY_AT] = -math.inf if left else time.monotonic()
    finally:
        ended_by = item.stash.get(_ERROR, None)
        late = isinstance(ended_by, LateError) and rerun.may_try_again(item)
        told.teller.end("the machine was too slow; tries again alone, after the others" if late else "")
    verdict = verdict_on(ended_by) if ended_by or not left else INVALID
    result = told.finish(verdict, str(ended_by or left))
    item.user_properties += told.properties(result)
    if left and not ended_by:
        pytest.fail(f"afterwards, {left}\n{told.folder}", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """A scenario's own code; at its end somebody must have seen what its faults did."""
    try:
        outcome = yield
        if _SCENARIO in pyfuncitem.stash:
            pyfuncitem.stash[_SCENARIO].check_faults_were_seen()
    except BaseException as error:
        late = _late(error, pyfuncitem)
        pyfuncitem.stash[_ERROR] = late or error
        if late:
            raise late from error
        raise
    return outcome


def _late(error: BaseException, item: pytest.Item) -> LateError | None:
    """A failure beside another worker's scenario, while its own driver was late, is the machine's until it is alone."""
    if isinstance(error, LateError) or not isinstance(error, Exception):
        return None
    if not rerun.may_try_again(item) or _SCENARIO not in item.stash:
        return None
    late = item.stash[_SCENARIO].late()
    return LateError(f"{late}; {str(error).partition(chr(10))[0] or type(error).__name__}") if late else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure also says how the lab was then."""
    report = yield
    if report.when == "call" and report.failed and _SCENARIO in item.stash:
        add_section = getattr(report.longrepr, "addsection", lambda *_: None)
        for name, content in item.stash[_SCENARIO].surroundings():
            add_section(name, content)
    if report.when == "setup" and report.failed and UNKNOWN.upper() in str(report.longrepr):
        item.user_properties.append(("verdict", UNKNOWN))
        report.user_properties.append(("verdict", UNKNOWN))
    return report


@dataclass(frozen=True, slots=True)
class ShortLeases:
    """For how long the callers of the small lab may reuse a decision, and without a resolver."""

    ttl: timedelta = timedelta(seconds=0.5)
    max_stale: timedelta = timedelta(seconds=2)


@pytest.fixture(scope="session")
def leases() -> ShortLeases:
    """Those of the small lab."""
    return ShortLeases()


@pytest.fixture(scope="session")
def _small_lab(
    pytestconfig: pytest.Config, leases: ShortLeases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Lab]:
    spec = f"""
        topologies = {json.dumps(TOPOLOGIES)}
        [callers.homepage]
        [leases]
        ttl_s = {leases.ttl.total_seconds()}
        max_stale_s = {leases.max_stale.total_seconds()}
        [stub]
        warm_up_ms = 1000
        """
    with own_lab(pytestconfig, tmp_path_factory.mktemp("small"), spec, _SMALL_ROUTES) as lab:
        yield lab


@pytest.fixture
def small_lab(_small_lab: Lab, scenario: Scenario) -> Lab:
    """Another lab: one caller, one cluster of two. Leases are short, and models take a second to load."""
    scenario.watch(_small_lab)
    return _small_lab


@pytest.fixture
def routes(lab: Lab, steady: SteadyState) -> Iterator[Path]:
    """The default route table, in force before and after the scenario."""
    yield ROUTES
    steady.put_table_back(lab)
