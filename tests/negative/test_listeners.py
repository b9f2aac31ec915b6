"""Every listener of every role refuses a certificate that is expired, another authority's, or of two units.

The listeners are those that the units' processes hold, so a new one is tried as soon as a unit has it. All are asked
from another address than their own, as one pod asks another: a sidecar trusts its own pod alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from importlib import import_module
from ipaddress import ip_address
from itertools import chain
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

import psutil
import pytest
from envoy.service.discovery.v3 import ads_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2
from envoy.service.load_stats.v3 import lrs_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

import models.proto
from lab import CHECKOUT
from lab.identity import OPERATOR, Identity
from lab.identity.authority import Authority
from lab.lab import Lab
from lab.roles import CALLER, ROLES
from lab.runtime.identities import Identities
from lab.runtime.process.runtime import ProcessSite
from lab.runtime.state import LabState
from lab.spec import SIZES
from lab.topologies import TOPOLOGIES
from lab.transport.security import MTLS, Security
from tests.forging import forged
from tests.labs import lab_up, write_spec
from tests.missing import missing
from tests.negative.scene import KEY, rank
from tests.negative.wire import RANK, Answer, Wire, tls_context
from tests.proxies import GATEWAYS, need, that_run_here
from tests.transport.servers import secured

ELSEWHERE = "127.0.0.2"
US, THEM = Identity(CALLER, "homepage"), Identity(OPERATOR, "cli")
PAGES = {"admin", "metrics"}
"""Names of the ports that only show something, and take no certificates."""
REST = {"gateway": "/v1/use-cases/ContinueWatchingRanking:call", "model": "/v1/ranking:rank"}
REFUSED = {"PERMISSION_DENIED", "CLOSED"}
ROUTED = {each.name: role for each in TOPOLOGIES.values() if each.carries for role in each.between}
"""Topology → role of its third-party router, which carries token models alone, in a lab of these."""
LETS_IN = "traefik"
"""Reads no certificate, so it lets in whom the lab's authority vouches for, as docs/security.md says."""
OTHERS_APIS = (ads_pb2, external_processor_pb2, health_pb2, lrs_pb2, reflection_pb2, trace_service_pb2)
HEALTH = "/grpc.health.v1.Health/Check"
ROUTES = """
use_cases:
  ContinueWatchingRanking: {callers: [homepage], api: ranking.v1, timeout: 10s, default: cw-ranker@v1}
models: {cw-ranker: {versions: {v1: {cluster: ml-cluster-1}}}}
clusters: {ml-cluster-1: {replicas: 1}}
"""
SPEC = """
topologies = {topologies}
routes = "routes.yaml"
metrics = true
traces = {{rate = 1.0}}
[callers.homepage]
[gateway]
replicas = 1
[extra_roles.edge]
[links.zones]
east = ["gateway"]
west = {others}
"""


@dataclass(frozen=True, slots=True)
class Listener:
    """An address at which a unit's processes accept connections; ``port`` is its name in the plan, if it has one."""

    role: str
    port: str
    address: str

    @property
    def is_for_this_machine(self) -> bool:
        """Whether it takes no certificates: a page, or a router and its doors behind the front of their unit."""
        return self.port in PAGES or (self.role in ROUTED.values() and not self.port)

    def ask(self, security: Security, path: str) -> Answer:
        """What a gRPC client is told, or how its connection ends."""
        try:
            with Wire(self.address, tls_context(security), ELSEWHERE) as wire:
                return wire.ask(KEY, body=rank() if path == RANK else b"", path=path)
        except OSError as error:
            return Answer("CLOSED", str(error))

    def post(self, security: Security) -> Answer:
        """The same of a REST client."""
        context, source = tls_context(security), (ELSEWHERE, 0)
        with closing(HTTPSConnection(self.address, timeout=10, context=context, source_address=source)) as client:
            try:
                client.request("POST", REST[self.role], b"{}", {"content-type": "application/json"})
                answer = client.getresponse()
                return Answer(f"HTTP {answer.status}", answer.read().decode())
            except (OSError, HTTPException) as error:
                return Answer("CLOSED", str(error))


@dataclass(frozen=True, slots=True)
class Doors:
    """A lab with a unit of each role, and its listeners."""

    lab: Lab
    folder: Path
    listeners: Sequence[Listener]

    def of(self, role: str) -> list[Listener]:
        """Those of a role that must know who comes."""
        found = [each for each in self.listeners if each.role == role and not each.is_for_this_machine]
        if not found and role in GATEWAYS.values():
            need(next(topology for topology, proxy in GATEWAYS.items() if proxy == role))
        assert found, f"no unit of role {role} listens here"
        return found

    @property
    def authority(self) -> Authority:
        """The lab's."""
        return Authority.load(Identities(self.lab.folder).folder)


def listeners_of(lab: Lab) -> Iterator[Listener]:
    """Of all its units."""
    plan = LabState.of(lab.folder).plan
    for unit in lab.status().units:
        ports = {port.bind: name for name, port in plan.unit(unit.name).ports.items()}
        held = listened_at(unit.pid)
        assert ports.keys() <= held, unit
        yield from (Listener(unit.role, ports.get(each, ""), each) for each in sorted(held))


def listened_at(pid: int) -> set[str]:
    """``ip:port`` of each listening socket of a process and its children."""
    process = psutil.Process(pid)
    held = chain.from_iterable(each.net_connections("tcp") for each in (process, *process.children(recursive=True)))
    listening = [each.laddr for each in held if each.status == psutil.CONN_LISTEN]
    return {f"{address.ip.removeprefix('::ffff:')}:{address.port}" for address in listening}


@pytest.fixture
def doors(request: pytest.FixtureRequest) -> Doors:
    """Those of the lab that has the test's role."""
    role = request.node.callspec.params["role"]
    if role not in ROUTED.values():
        return request.getfixturevalue("of_all_apis")  # type: ignore[no-any-return]
    if not _installed(role):
        program = ROLES[role].program
        missing(f"{role} is not installed: {program.remedy if program else ''}")
    return request.getfixturevalue("of_token_models")  # type: ignore[no-any-return]


def _installed(role: str) -> bool:
    program = ROLES[role].program
    return program is not None and program.installed()


@pytest.fixture(scope="module")
def of_token_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("routers")
    topologies = [topology for topology, role in ROUTED.items() if _installed(role)]
    options: dict[str, Any] = {"topologies": topologies, "picker": "cache-aware", "security": MTLS, "metrics": True}
    with lab_up(folder, spec=SIZES["tokens"], **options) as lab:
        yield Doors(lab, folder, [*listeners_of(lab)])


@pytest.fixture(scope="module")
def of_all_apis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    folder = tmp_path_factory.mktemp("listeners")
    others = sorted({"model", CALLER}.union(*(each.between for each in TOPOLOGIES.values())) - {"gateway"})
    spec = write_spec(folder, SPEC.format(topologies=that_run_here(TOPOLOGIES), others=others), ROUTES)
    with pytest.MonkeyPatch.context() as patch:
        # As in pods, where a sidecar's port faces outside. Processes of one machine ask at a Unix socket instead.
        patch.setattr(ProcessSite, "port_beside", lambda site, unit, pod, number: site.port(unit, "grpc", pod, number))
        with lab_up(folder, spec=spec, security=MTLS) as lab:
            yield Doors(lab, folder, [*listeners_of(lab)])


def expired(doors: Doors) -> Security:
    return secured(doors.authority, US.role, "expired", lifetime_s=-1)


def foreign(doors: Doors) -> Security:
    folder = doors.folder / "strangers"
    strangers = Authority.load(folder) if folder.exists() else Authority.create(folder, lifetime_s=3_600)
    return secured(strangers, US.role, US.name)


def services() -> dict[str, str]:
    """Full name of each API that a unit may serve → one of its methods."""
    own = [import_module(each.name) for each in walk_packages(models.proto.__path__, "models.proto.")]
    files = [each.DESCRIPTOR for each in (*own, *OTHERS_APIS) if hasattr(each, "DESCRIPTOR")]
    found = chain.from_iterable(each.services_by_name.values() for each in files)
    return {each.full_name: each.methods[0].name for each in found}


@pytest.mark.parametrize("role", ROLES)
def test_who_is_who_they_say_is_answered(doors: Doors, role: str) -> None:
    us = Security(MTLS, str(Identities(doors.lab.folder).of(US.name)))

    for listener in doors.of(role):
        if listener.port == "rest":
            assert listener.post(us).status == "HTTP 200", listener
        else:
            assert listener.ask(us, HEALTH).status == "OK", listener


@pytest.mark.parametrize("shown", [expired, foreign])
@pytest.mark.parametrize("role", ROLES)
def test_a_certificate_that_proves_nothing_ends_the_connection(
    doors: Doors, role: str, shown: Callable[[Doors], Security]
) -> None:
    security = shown(doors)

    for listener in doors.of(role):
        answer = listener.post(security) if listener.port == "rest" else listener.ask(security, HEALTH)
        if answer.status == "HTTP 400":
            assert "SSL certificate error" in answer.reason, listener  # NGINX says so before it closes
        else:
            assert answer.status == "CLOSED", (listener, answer)


@pytest.mark.parametrize("order", [(US, THEM), (THEM, US)], ids=["us first", "us last"])
@pytest.mark.parametrize("role", ROLES)
def test_a_certificate_of_two_units_is_refused_at_every_api(doors: Doors, role: str, order: Sequence[Identity]) -> None:
    security = forged(doors.authority, "two", order)

    for listener in doors.of(role):
        if listener.port == "rest":
            answer = listener.post(security)
            assert (answer.status, "exactly one identity" in answer.reason) == ("HTTP 403", True), (listener, answer)
            continue
        answers = {name: listener.ask(security, f"/{name}/{method}") for name, method in services().items()}
        if role == LETS_IN and listener.port:
            assert answers["ranking.v1.Ranking"].status == "OK"
            continue
        assert answers.pop("grpc.health.v1.Health").status in REFUSED
        for name, answer in answers.items():
            assert answer.status in {*REFUSED, "UNIMPLEMENTED"}, (listener, name, answer)


@pytest.mark.parametrize("role", ROLES)
def test_pages_without_certificates_are_for_this_machine_alone(doors: Doors, role: str) -> None:
    pages = [each for each in doors.listeners if each.role == role and each.is_for_this_machine]

    assert [each for each in pages if not ip_address(each.address.rpartition(":")[0]).is_loopback] == []


def test_each_api_that_a_unit_serves_is_tried() -> None:
    code = "".join(
        path.read_text() for room in ("lab", "services", "models") for path in (CHECKOUT / room).rglob("*.py")
    )
    served = {*re.findall(r"_pb2_grpc\.add_(\w+)Servicer_to_server", code)}

    assert len(served) > len(OTHERS_APIS)
    assert served <= {name.rpartition(".")[2] for name in services()}
