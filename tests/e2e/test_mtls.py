"""A lab whose connections are secured: it works as any, certificates change under load, and impostors do not get in."""

from __future__ import annotations

import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.struct_pb2 import Struct

from lab.history import read_parquet
from lab.identity import Identity
from lab.identity.authority import Authority
from lab.lab import Lab
from lab.runs import LoadOptions
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.topologies import TOPOLOGIES as ALL
from lab.topologies import open_client
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from lab.waiting import eventually
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc, rules_pb2, rules_pb2_grpc
from services.controlplane.xds.resources import LISTENER
from tests.lab_command import json_of, refusal, run_lab
from tests.labs import address_of, ask, lab_up, status_of, write_spec
from tests.parts import rank_request
from tests.proxies import GATEWAYS, that_run_here

USE_CASE = "ContinueWatchingRanking"
TOPOLOGIES = that_run_here(ALL)
# Each alone, at the rate that it was designed for; the others together. Other proxies: tests/e2e/test_proxies.py.
ALONE = ("mesh", "gateway")
MODEL = "ml-cluster-1-a"
SOON = timedelta(seconds=20)
# In the gateway's words its time is up before gRPC has given the connection up.
REFUSED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A small one with every kind of connection."""
    folder = tmp_path_factory.mktemp("mtls")
    # What is asked is whether a request fails for want of a certificate: a busy picker may take its time.
    spec = write_spec(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lab.plugins.endpoint_picker.envoy.MESSAGE_TIMEOUT_S", 10)
        with lab_up(folder, spec=spec, topologies=TOPOLOGIES, security="mtls") as lab:
            yield lab


def as_unit(lab: Lab, name: str) -> Security:
    return Security(MTLS, str(Identities(lab.folder).of(name)))


def refused(stub_call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as error:
        stub_call()
    return error.value.code(), error.value.details() or ""


@pytest.mark.parametrize("topology", [each for each in TOPOLOGIES if each not in ("direct", "proxyless")])
async def test_units_are_reached_by_name(lab: Lab, topology: str) -> None:
    endpoints = LabState.of(lab.folder).plan.clients["homepage"].from_another_pod("localhost")
    client = open_client(topology, "homepage", endpoints, security=as_unit(lab, "homepage"))
    try:
        await client.ready()
        answer = await client.call(USE_CASE, rank_request(), {"user_id": "u1", "device": "tv"})
    finally:
        await client.close()
    assert answer.source == "model"


@contextmanager
def rotating(lab: Lab) -> Iterator[None]:
    """Rotates the certificates of all units again and again."""
    done, serials = threading.Event(), list[str]()

    def rotate() -> None:
        while not done.wait(1.5):
            serials.append(lab.certificates.rotate()["gateway-1"].serial)

    # One alone that a busy machine keeps from its heartbeats for a second would be taken out, and nobody left.
    lab.units.scale("ml-cluster-1", 2)
    rotation = threading.Thread(target=rotate)
    rotation.start()
    try:
        yield
    finally:
        done.set()
        rotation.join()
        lab.units.scale("ml-cluster-1", 1)
    assert len(set(serials)) == len(serials) >= 3


def load_by(topology: str, rate: float) -> LoadOptions:
    return LoadOptions(
        topology=topology,
        caller="homepage",
        use_cases=(USE_CASE,),
        rate=rate,
        duration_s=8.0,
        arrivals="constant",
        contexts={},
    )


def ends_of(run: Path) -> Counter[tuple[str, str]]:
    """How often requests of a run ended by each status and message."""
    return Counter((each.status, each.message) for each in read_parquet(run / "history.parquet"))


@pytest.mark.parametrize("topology", ALONE)
def test_certificates_rotate_at_300_rps_and_no_request_fails(lab: Lab, topology: str) -> None:
    with rotating(lab):
        result = lab.load(load_by(topology, 300.0))

    assert ends_of(result.folder) == {("OK", ""): 2400}


def test_certificates_rotate_under_load_by_all_other_topologies_and_no_request_fails(lab: Lab) -> None:
    others = [each for each in TOPOLOGIES if each not in (*ALONE, *GATEWAYS)]
    with rotating(lab):
        result = lab.load_parallel([load_by(each, 40.0) for each in others])

    ends = {topology: ends_of(run.folder) for topology, run in zip(others, result.runs, strict=True)}
    assert ends == {each: {("OK", ""): 320} for each in others}


def test_nobody_but_the_operator_administers(lab: Lab) -> None:
    control_plane = lab.endpoints().control_plane
    for unit in ("homepage", "gateway-1", "homepage-sidecar", MODEL):
        with open_blocking_channel(control_plane, as_unit(lab, unit)) as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            code, reason = refused(partial(stub.GetStatus, admin_pb2.GetStatusRequest(), timeout=5))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason.endswith("for the operator only")


def test_a_model_answers_callers_and_sidecars_only(lab: Lab) -> None:
    address = address_of(lab, MODEL)
    with open_blocking_channel(address, as_unit(lab, "homepage-resolver")) as channel:
        rank: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/ranking.v1.Ranking/Rank")
        code, reason = refused(lambda: rank(b"", timeout=5))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "not for spiffe://lab.internal/resolver/homepage-resolver" in reason

    with grpc.insecure_channel(address) as channel:
        rank = channel.unary_unary("/ranking.v1.Ranking/Rank")
        assert refused(lambda: rank(b"", timeout=5))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_node_may_only_be_the_one_its_certificate_names(lab: Lab) -> None:
    control_plane = lab.endpoints().control_plane
    metadata = Struct()
    metadata.update({"role": "sidecar"})
    first = discovery_pb2.DeltaDiscoveryRequest(
        node=base_pb2.Node(id="search-sidecar", cluster="search", metadata=metadata),
        type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster",
    )
    with open_blocking_channel(control_plane, as_unit(lab, "homepage-sidecar")) as channel:
        stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(iter([first]), timeout=5)
        code, reason = refused(lambda: next(stream))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "may not be node 'search-sidecar'" in reason

    with open_blocking_channel(control_plane, as_unit(lab, "homepage-resolver")) as channel:
        hello = rules_pb2.SubscribeRequest(node="gateway-1", role="gateway", with_endpoints=True)
        updates = rules_pb2_grpc.RulesStub(channel).Subscribe(iter([hello]), timeout=5)
        code, reason = refused(lambda: next(updates))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "may not be node 'gateway-1'" in reason


def test_an_unplanned_node_is_refused_until_the_operator_admits_it(lab: Lab) -> None:
    def first_answer() -> str:
        node = base_pb2.Node(id="homepage-laptop", cluster="homepage")
        first = discovery_pb2.DiscoveryRequest(node=node, type_url=LISTENER, resource_names=["models"])
        with open_blocking_channel(lab.endpoints().control_plane, as_unit(lab, "homepage")) as channel:
            stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            try:
                return str(next(stub.StreamAggregatedResources(iter([first]), timeout=5)).type_url)
            except grpc.RpcError as error:
                return error.code().name

    def states() -> set[tuple[str, str]]:
        listed = json_of(run_lab(lab, "nodes", "--json"))["nodes"]
        return {(each["node"], each["state"]) for each in listed}

    assert first_answer() == "PERMISSION_DENIED"
    assert states() >= {("homepage-laptop", "refused"), ("homepage-sidecar", "planned"), ("gateway-1", "planned")}

    assert json_of(run_lab(lab, "nodes", "admit", "homepage-laptop", "--json"))["caller"] == "homepage"

    assert first_answer() == LISTENER
    assert ("homepage-laptop", "admitted") in states()
    assert lab.audit(1).acts[-1].what == "control.v1.Admin/AdmitNode"


def await_statuses(lab: Lab, *expected: str) -> None:
    """Waits until a request through each topology ends so."""
    for topology in TOPOLOGIES:
        eventually(
            f"{topology}: {' or '.join(expected)}",
            partial(status_of, lab, topology),
            within=SOON,
            until=expected.__contains__,
        )


def test_a_model_that_is_of_another_cluster_gets_no_request(lab: Lab) -> None:
    """As when an address is used again: there is a model, but not the one that was meant."""
    identities = Identities(lab.folder)
    authority = Authority.load(identities.folder)
    await_statuses(lab, "OK")
    authority.issue(MODEL, Identity("model", "ml-cluster-9"), {"127.0.0.1"})
    proxies = [GATEWAYS[each] for each in that_run_here(GATEWAYS)]
    try:
        # Connections that are open have seen the certificate before.
        sidecars = ("homepage-sidecar", "homepage-picker-sidecar")
        envoys = (*sidecars, "central-envoy", "picking-envoy", "strict-envoy", "body-envoy")
        for unit in ("homepage", *envoys, "gateway-1", *proxies):
            lab.units.kill(unit)
            lab.units.start(unit)
        await_statuses(lab, *REFUSED)
    finally:
        lab.certificates.rotate(MODEL)
    await_statuses(lab, "OK")


def test_only_their_owner_reads_keys_and_no_units_folder_has_the_authoritys(lab: Lab) -> None:
    pki = Identities(lab.folder).folder
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (pki / "ca.key", pki)}
    assert modes == {"ca.key": 0o600, "pki": 0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.glob("units/*/current/key.pem")} == {0o600}
    key = (pki / "ca.key").read_bytes()
    assert not [
        path for path in lab.folder.rglob("*") if path.is_file() and path.parent != pki and key in path.read_bytes()
    ]


def test_the_command_shows_and_rotates_certificates(lab: Lab) -> None:
    shown = json_of(run_lab(lab, "pki", "show", "--json"))["certificates"]
    by_unit = {each["unit"]: each for each in shown}
    assert by_unit[MODEL]["uri"] == "spiffe://lab.internal/model/ml-cluster-1"
    assert by_unit["operator"]["uri"] == "spiffe://lab.internal/operator/cli"

    [rotated] = json_of(run_lab(lab, "pki", "rotate", "gateway-1", "--json"))["certificates"]
    assert (rotated["unit"], rotated["serial"] != by_unit["gateway-1"]["serial"]) == ("gateway-1", True)

    assert "'nobody' is not a unit of this lab" in refusal(run_lab(lab, "pki", "rotate", "nobody"))


def test_a_lab_in_plaintext_has_no_certificates_and_says_what_to_do(own_lab: Lab, mini_spec: Path) -> None:
    own_lab.up(spec=mini_spec, topologies=["mesh"], security="plaintext", runtime="process")
    assert "bring it up with --security mtls" in refusal(run_lab(own_lab, "pki", "show"))
    assert not Identities(own_lab.folder).folder.exists()

    for command in (["status"], ["up", "--spec", mini_spec, "--topology", "mesh", "--security", "plaintext"]):
        assert "plaintext: no identity is proved" in run_lab(own_lab, *command).stdout
    assert json_of(run_lab(own_lab, "status", "--json"))["security"] == "plaintext"


def test_a_lab_with_certificates_does_not_speak_of_plaintext(lab: Lab) -> None:
    assert "plaintext" not in run_lab(lab, "status").stdout
    assert json_of(run_lab(lab, "status", "--json"))["security"] == "mtls"


def test_a_replica_that_comes_later_has_its_certificate_and_gets_requests(lab: Lab) -> None:
    [_, newcomer] = lab.units.scale("ml-cluster-1", 2)
    try:
        assert lab.certificates.show(newcomer)[newcomer].uri == lab.certificates.show(MODEL)[MODEL].uri
        for topology in ("mesh", "gateway", "proxyless"):
            answering = set[str]()

            def ask_again(topology: str = topology, answering: set[str] = answering) -> set[str]:
                answering.add(ask(lab, topology).replica)
                return answering

            eventually(f"{newcomer} answers", ask_again, within=SOON, until=lambda names: newcomer in names)
    finally:
        lab.units.scale("ml-cluster-1", 1)


def test_a_fault_that_ends_by_itself_is_healed_by_the_operators_right(lab: Lab) -> None:
    fault = lab.faults.inject("slow", MODEL, for_s=0.5)

    def there() -> list[str]:
        return [each.id for each in lab.faults.active()]

    eventually("it has ended", there, within=SOON, until=lambda ids: fault.id not in ids)
    assert status_of(lab, "mesh") == "OK"
