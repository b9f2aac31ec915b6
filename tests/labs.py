"""Labs for tests: small specs and route tables, labs that are up for a block, and requests to them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from lab.client.admin_values import ControlPlaneStatus
from lab.client.call import CallOutcome
from lab.errors import CallError
from lab.lab import DEFAULT_SPEC, Lab
from lab.runs import LoadOptions, RunResult, background_load
from lab.runtime.compose.engine import connect
from tests.distribution import scope_of

SPEC = """
topologies = ["gateway", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
"""
# Few tests are about deadlines: the timeout is one that a busy machine does not reach.
ROUTES = """
use_cases:
  ContinueWatchingRanking:
    callers: [homepage]
    api: ranking.v1
    timeout: 10s
    default: cw-ranker@v1
models:
  cw-ranker:
    versions:
      v1: {cluster: ml-cluster-1}
clusters:
  ml-cluster-1: {replicas: 1}
"""
TWO_REPLICAS = ROUTES.replace("replicas: 1", "replicas: 2")

# Two callers, each with a use case, a model and its own cluster; one of them owns a tenant.
TWO_CALLERS_SPEC = """
topologies = ["gateway", "gateway-header", "mesh", "proxyless"]
routes = "routes.yaml"
[callers.homepage]
[callers.search]
[gateway]
replicas = 1
"""
TWO_CALLERS_ROUTES = """
use_cases:
  ContinueWatchingRanking:
    {callers: [homepage], api: ranking.v1, timeout: 10s, default: cw-ranker@v1}
  SearchRanking:
    {callers: [search], api: ranking.v1, timeout: 10s, default: search-ranker@v1}
models:
  cw-ranker: {versions: {v1: {cluster: ml-cluster-1}}}
  search-ranker: {versions: {v1: {cluster: ml-cluster-2}}}
clusters:
  ml-cluster-1: {replicas: 1}
  ml-cluster-2: {replicas: 1}
tenants:
  ads: {rate: 100, callers: [search]}
"""


def write_spec(folder: Path, spec: str = SPEC, routes: str = ROUTES) -> Path:
    """Writes a spec and its route table, ``routes.yaml``; returns the spec's path."""
    (folder / "routes.yaml").write_text(routes)
    file = folder / "mini.toml"
    file.write_text(spec)
    return file


def with_timeout(table: str, timeout: str) -> str:
    """The route table with another timeout for each use case, e.g. ``3s``."""
    return re.sub(r"timeout: \w+", f"timeout: {timeout}", table)


def unique_lab(folder: Path) -> Lab:
    """A lab of a name that no other has, which is not up."""
    return Lab(f"test-{secrets.token_hex(3)}", home=folder)


@contextmanager
def lab_up(folder: Path, *, spec: Path = DEFAULT_SPEC, runtime: str = "process", **options: Any) -> Iterator[Lab]:
    """A lab that is up for the block."""
    lab = unique_lab(folder)
    try:
        lab.up(spec=spec, runtime=runtime, **options)
        yield lab
    finally:
        lab.down()


class SharedLabs:
    """Labs that stand as long as the next test is of those that share them, see :mod:`tests.distribution`."""

    def __init__(self) -> None:
        self._up = ExitStack()
        self._labs: dict[str, Lab] = {}

    @contextmanager
    def lab(self, name: str, bring_up: Callable[[], AbstractContextManager[Lab]]) -> Iterator[Lab]:
        """One of them, brought up unless it stands; the block leaves it as it was."""
        if name not in self._labs:
            self._labs[name] = self._up.enter_context(bring_up())
        lab = self._labs[name]
        before = _condition(lab)
        yield lab
        after = _condition(lab)
        assert after == before, f"{name} is not as it was before these tests"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Takes them down after the last test that shares them."""
        try:
            return (yield)
        finally:
            if nextitem is None or scope_of(nextitem.nodeid) != scope_of(item.nodeid):
                self._labs.clear()
                self._up.close()


def _condition(lab: Lab) -> dict[str, Any]:
    """Its units, the route table in force, the faults and callers' topologies."""
    table, callers = lab.routes.show().document, lab.callers.show()
    return {"units": states(lab), "table": table, "faults": lab.faults.active(), "callers": callers}


def processes_of(lab: Lab, unit: str = "") -> list[psutil.Process]:
    """Processes that carry the lab's mark, or that of one of its units."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("LAB_UNIT", "").startswith(f"{lab.folder}:{unit}"):
                found.append(process)
        except psutil.Error:
            continue
    return found


def docker_objects_of(lab: Lab) -> list[str]:
    """Names of the containers, networks and volumes that the Docker engine has of the lab."""
    engine = connect()
    found = [each.name for each in engine.containers.list(all=True, ignore_removed=True)]
    found += [each.name for each in engine.networks.list()]
    found += [each.name for each in engine.volumes.list()]
    return [name for name in found if name and f"lab-{lab.name}-" in name]


def ask(lab: Lab, topology: str = "mesh", **context: str) -> CallOutcome:
    """The answer to one request by the caller homepage."""
    context = {"user_id": "u1", **context}
    return lab.call("ContinueWatchingRanking", topology=topology, caller="homepage", context=context)


def status_of(lab: Lab, topology: str = "mesh", **context: str) -> str:
    """The status of one request by the caller homepage."""
    try:
        ask(lab, topology, **context)
    except CallError as error:
        return error.code.name
    return "OK"


def replica_of(lab: Lab, topology: str = "mesh", **context: str) -> str:
    """The replica that answers one request by the caller homepage, or the status."""
    try:
        return ask(lab, topology, **context).replica
    except CallError as error:
        return error.code.name


def drive_all(lab: Lab, topologies: Iterable[str], **options: Any) -> dict[str, RunResult]:
    """The caller homepage's run over each topology, all at the same time, with the same options."""
    loads = [LoadOptions(topology=each, caller="homepage", **options) for each in topologies]
    with background_load(lab.load, *loads) as runs:
        pass
    return {load.topology: run.result() for load, run in zip(loads, runs, strict=True)}


def states(lab: Lab) -> dict[str, str]:
    """Unit → state."""
    return {unit.name: unit.state for unit in lab.status().units}


def address_of(lab: Lab, unit: str) -> str:
    """The unit's address."""
    return next(each.address for each in lab.status().units if each.name == unit)


def known(lab: Lab) -> ControlPlaneStatus:
    """The status of the control plane, which must answer."""
    status = lab.control_plane_status()
    assert status is not None
    return status
