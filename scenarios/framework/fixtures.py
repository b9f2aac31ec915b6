"""The fixtures of every scenario: the lab it runs against, its topology's steady state, and the scenario itself."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from lab.errors import DeadlineError
from lab.lab import Lab
from lab.ops.reaper import reaping
from lab.topologies import TOPOLOGIES
from scenarios.entry import asked_runtime
from scenarios.framework import rerun
from scenarios.framework.catalogue import MARK, default_topologies
from scenarios.framework.machine_lock import MachineLock, open_lock
from scenarios.framework.scenario import Scenario, folder_name
from scenarios.framework.session import DISPLAY, ERROR, FOLDER, SCENARIO, asked_topologies
from scenarios.framework.steady import ROUTES, SteadyState, settle
from scenarios.framework.steps import LEASE_MAX_STALE, LEASE_TTL, own_lab
from scenarios.framework.verdicts import INVALID, LateError, UnknownError, verdict_on

_STEADY_AT = pytest.StashKey[float]()
_STEADY_FOR_S = 0.5  # a steady state that was seen so recently is not checked again
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


@pytest.fixture(scope="session")
def _reaper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Takes down every lab that this process has brought up, however the process ends."""
    with reaping(tmp_path_factory.getbasetemp()):
        yield


@pytest.fixture(scope="session")
def machine_lock(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MachineLock]:
    """The lock by which a scenario can have this machine to itself."""
    own = tmp_path_factory.getbasetemp()
    with open_lock((own.parent if hasattr(pytestconfig, "workerinput") else own) / "machine.lock") as lock:
        yield lock


@pytest.fixture(scope="session")
def lab(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    machine_lock: MachineLock,
    topologies: list[str],
    _reaper: None,
) -> Iterator[Lab]:
    """A lab that is up."""
    name = request.config.getoption("lab_name")
    if name is not None:
        if hasattr(request.config, "workerinput"):
            pytest.exit("scenarios publish: on a lab that is up, run them one after the other, without -n")
        yield Lab(name)
        return
    always = [each.name for each in TOPOLOGIES.values() if each.in_default_lab and each.name not in topologies]
    lab = Lab(f"scenarios-{secrets.token_hex(3)}", home=tmp_path_factory.mktemp("lab"))
    try:
        with machine_lock.shared():
            lab.up(runtime=asked_runtime(request.config), topologies=[*always, *topologies])
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def topologies(pytestconfig: pytest.Config) -> list[str]:
    """All topologies that were asked for; ``topology`` is each of them in turn."""
    return asked_topologies(pytestconfig)


@pytest.fixture(scope="session")
def steady(lab: Lab, topologies: list[str]) -> SteadyState:
    """The state of the lab before anything was done to it."""
    return SteadyState.of(lab, topologies)


@pytest.fixture
def _in_turn(
    request: pytest.FixtureRequest,
    lab: Lab,  # noqa: ARG001 (it comes up before the lock is taken)
    machine_lock: MachineLock,
) -> Iterator[None]:
    with machine_lock.shared(), machine_lock.exclusive() if rerun.reason(request.node) else nullcontext():
        yield


@pytest.fixture(scope="session")
def runtime(lab: Lab) -> str:
    """Name of the runtime on which the lab's units run."""
    return lab.status().runtime


@pytest.fixture(autouse=True)
def _scenario(request: pytest.FixtureRequest) -> None:
    """Makes a scenario of every test that has the mark."""
    if request.node.get_closest_marker(MARK):
        request.getfixturevalue("scenario")


@pytest.fixture
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
    if mark and runtime not in mark.kwargs.get("runtimes", [runtime]):
        pytest.skip(f"runs on {', '.join(mark.kwargs['runtimes'])} only; this lab is on {runtime}")
    current = _scenario_of(item, lab, runtime)
    item.stash[SCENARIO] = current
    if ERROR in item.stash:
        del item.stash[ERROR]  # of the first run
    if first := rerun.reason(item):
        current.figure("rerun alone", first)
    current.display.begin(
        f"{current.module.removeprefix('test_')}: {item.name.removeprefix('test_').replace('_', ' ')}"
    )
    if time.monotonic() - item.config.stash.get(_STEADY_AT, -math.inf) > _STEADY_FOR_S:
        try:
            steady.wait(lab)
        except DeadlineError as error:
            current.display.end()
            raise UnknownError(f"before it began, {error}") from None
    try:
        yield current
        left = settle(lab, steady)
        item.config.stash[_STEADY_AT] = -math.inf if left else time.monotonic()
    finally:
        ended_by = item.stash.get(ERROR, None)
        late = isinstance(ended_by, LateError) and rerun.may_rerun(item)
        current.display.end("the machine was too slow; reruns alone, after the others" if late else "")
    verdict = verdict_on(ended_by) if ended_by or not left else INVALID
    result = current.finish(verdict, str(ended_by or left))
    item.user_properties += current.properties(result)
    if left and not ended_by:
        pytest.fail(f"afterwards, {left}\n{current.folder}", pytrace=False)


def _scenario_of(item: pytest.Function, lab: Lab, runtime: str) -> Scenario:
    case = item.callspec if hasattr(item, "callspec") else None
    module = item.module.__name__.rpartition(".")[2]
    return Scenario(
        lab=lab,
        folder=item.config.stash[FOLDER] / folder_name(module, item.originalname, case.id if case else ""),
        module=module,
        name=item.originalname,
        case=case.id if case else "",
        topology=str(case.params.get("topology", "")) if case else "",
        runtime=runtime,
        display=item.config.stash[DISPLAY],
    )


@pytest.fixture(scope="session")
def _small_lab(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    spec = f"""
        topologies = {json.dumps(default_topologies())}
        [callers.homepage]
        [leases]
        ttl_s = {LEASE_TTL.total_seconds()}
        max_stale_s = {LEASE_MAX_STALE.total_seconds()}
        [stub]
        warm_up_ms = 1000
        """
    with own_lab(pytestconfig, tmp_path_factory.mktemp("small"), spec, _SMALL_ROUTES) as lab:
        yield lab


@pytest.fixture
def small_lab(_small_lab: Lab, scenario: Scenario) -> Lab:
    """A second lab: one caller, one cluster of two replicas, short leases, models that take a second to load."""
    scenario.watch(_small_lab)
    return _small_lab


@pytest.fixture
def routes(lab: Lab, steady: SteadyState) -> Iterator[Path]:
    """The default route table, in force before and after the scenario."""
    yield ROUTES
    steady.put_table_back(lab)
