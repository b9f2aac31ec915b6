"""A lab whose connections are secured: it works as any, certificates change under load, and impostors do not get in."""

from __future__ import annotations

import json
import secrets
import stat
import threading
from collections import Counter
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf.struct_pb2 import Struct

from lab.client.call import call
from lab.errors import CallError
from lab.history import read_parquet
from lab.identity import Identity
from lab.identity.authority import Authority
from lab.lab import Lab
from lab.runs import LoadOptions
from lab.runtime.identities import Identities
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from lab.waiting import eventually
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc, rules_pb2, rules_pb2_grpc
from tests.conftest import MINI_ROUTES, MINI_SPEC
from tests.lab_command import run_lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


USE_CASE = "ContinueWatchingRanking"
WAYS = ("direct", "gateway", "gateway-header", "mesh", "proxyless")
MODEL = "ml-cluster-1-a"
SOON = timedelta(seconds=20)
# In the gateway's words its time is up before gRPC has given the connection up.
REFUSED = ("UNAVAILABLE", "DEADLINE_EXCEEDED")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A small one with every kind of connection."""
    folder = tmp_path_factory.mktemp("mtls")
    # A busy machine may take its time; what is asked here is whether a request fails for want of a certificate.
    (folder / "routes.yaml").write_text(MINI_ROUTES.replace("timeout: 2s", "timeout: 10s"))
    spec = folder / "mini.toml"
    spec.write_text(MINI_SPEC)
    lab = Lab(f"test-{secrets.token_hex(3)}", home=folder)
    try:
        lab.up(spec=spec, topologies=WAYS, security="mtls", runtime="process")
        yield lab
    finally:
        lab.down()


def as_unit(lab: Lab, name: str) -> Security:
    return Security(MTLS, str(Identities(lab.folder).of(name)))


def refusal(stub_call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as refused:
        stub_call()
    return refused.value.code(), refused.value.details() or ""


def ask(lab: Lab, topology: str) -> str:
    """The status."""
    try:
        call(lab.endpoints().callers["homepage"], USE_CASE, topology, {"user_id": "u1"})
    except CallError as error:
        return error.code.name
    return "OK"


@pytest.mark.parametrize("topology", ["mesh", "gateway"])
def test_certificates_rotate_at_300_rps_and_no_request_fails(lab: Lab, topology: str) -> None:
    done = threading.Event()
    rotations = []

    def rotate() -> None:
        while not done.wait(1.5):
            rotations.append(lab.certificates.rotate())

    # One alone that a busy machine keeps from its heartbeats for a second would be taken out, and nobody left.
    lab.units.scale("ml-cluster-1", 2)
    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        options = LoadOptions(
            topology=topology,
            caller="homepage",
            use_cases=(USE_CASE,),
            rate=300.0,
            duration_s=8.0,
            arrivals="constant",
            contexts={},
        )
        result = lab.load(options)
    finally:
        done.set()
        rotating.join()
        lab.units.scale("ml-cluster-1", 1)

    assert Counter((each.status, each.message) for each in read_parquet(result.folder / "history.parquet")) == {
        ("OK", ""): 2400
    }
    assert len(rotations) >= 3
    serials = {each["gateway-1"].serial for each in rotations}
    assert len(rotations) == len(serials)


def test_nobody_but_the_operator_administers(lab: Lab) -> None:
    control_plane = lab.endpoints().control_plane
    for unit in ("homepage", "gateway-1", "homepage-sidecar", MODEL):
        with open_blocking_channel(control_plane, as_unit(lab, unit)) as channel:
            stub = admin_pb2_grpc.AdminStub(channel)
            code, reason = refusal(partial(stub.GetStatus, admin_pb2.GetStatusRequest(), timeout=5))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason.endswith("for the operator only")


def test_a_model_answers_none_but_who_is_there_to_ask(lab: Lab) -> None:
    [address] = [unit.address for unit in lab.status().units if unit.name == MODEL]
    with open_blocking_channel(address, as_unit(lab, "homepage-resolver")) as channel:
        rank: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/ranking.v1.Ranking/Rank")
        code, reason = refusal(lambda: rank(b"", timeout=5))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "not for spiffe://lab.internal/resolver/homepage-resolver" in reason

    with grpc.insecure_channel(address) as channel:
        rank = channel.unary_unary("/ranking.v1.Ranking/Rank")
        assert refusal(lambda: rank(b"", timeout=5))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_node_is_who_its_certificate_says(lab: Lab) -> None:
    control_plane = lab.endpoints().control_plane
    metadata = Struct()
    metadata.update({"role": "sidecar"})
    first = discovery_pb2.DeltaDiscoveryRequest(
        node=base_pb2.Node(id="search-sidecar", cluster="search", metadata=metadata),
        type_url="type.googleapis.com/envoy.config.cluster.v3.Cluster",
    )
    with open_blocking_channel(control_plane, as_unit(lab, "homepage-sidecar")) as channel:
        stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).DeltaAggregatedResources(iter([first]), timeout=5)
        code, reason = refusal(lambda: next(stream))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "may not be node 'search-sidecar'" in reason

    with open_blocking_channel(control_plane, as_unit(lab, "homepage-resolver")) as channel:
        hello = rules_pb2.SubscribeRequest(node="gateway-1", role="gateway", with_endpoints=True)
        updates = rules_pb2_grpc.RulesStub(channel).Subscribe(iter([hello]), timeout=5)
        code, reason = refusal(lambda: next(updates))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "may not be node 'gateway-1'" in reason


@pytest.mark.parametrize("topology", WAYS)
def test_a_model_that_is_of_another_cluster_gets_no_request(lab: Lab, topology: str) -> None:
    """As when an address is used again: there is a model, but not the one that was meant."""
    identities = Identities(lab.folder)
    authority = Authority.load(identities.folder)
    eventually(f"{topology} answers", lambda: ask(lab, topology), within=SOON, until=lambda status: status == "OK")
    authority.issue(MODEL, Identity("model", "ml-cluster-9"), {"127.0.0.1"})
    try:
        # Connections that are open have seen the certificate before.
        for unit in ("homepage", "homepage-sidecar", "central-envoy", "gateway-1"):
            lab.units.kill(unit)
            lab.units.start(unit)
        eventually(
            f"{topology} refuses", lambda: ask(lab, topology), within=SOON, until=lambda status: status in REFUSED
        )
    finally:
        lab.certificates.rotate(MODEL)
    eventually(f"{topology} answers", lambda: ask(lab, topology), within=SOON, until=lambda status: status == "OK")


def test_keys_are_for_their_owners_eyes_and_the_authority_s_is_in_no_units_folder(lab: Lab) -> None:
    pki = Identities(lab.folder).folder
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (pki / "ca.key", pki)}
    assert modes == {"ca.key": 0o600, "pki": 0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in pki.glob("units/*/current/key.pem")} == {0o600}
    key = (pki / "ca.key").read_bytes()
    assert not [
        path for path in lab.folder.rglob("*") if path.is_file() and path.parent != pki and key in path.read_bytes()
    ]


def test_the_command_shows_and_rotates_certificates(lab: Lab) -> None:
    shown = json.loads(run_lab(lab, "pki", "show", "--json").stdout)["certificates"]
    by_unit = {each["unit"]: each for each in shown}
    assert by_unit[MODEL]["uri"] == "spiffe://lab.internal/model/ml-cluster-1"
    assert by_unit["operator"]["uri"] == "spiffe://lab.internal/operator/cli"

    [rotated] = json.loads(run_lab(lab, "pki", "rotate", "gateway-1", "--json").stdout)["certificates"]
    assert (rotated["unit"], rotated["serial"] != by_unit["gateway-1"]["serial"]) == ("gateway-1", True)

    unknown = run_lab(lab, "pki", "rotate", "nobody")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "'nobody' is no unit of this lab" in unknown.stderr


def test_a_lab_in_plaintext_has_no_certificates_and_says_what_to_do(
    new_lab: Callable[[], Lab], mini_spec: Path
) -> None:
    lab = new_lab()
    lab.up(spec=mini_spec, topologies=["mesh"], security="plaintext", runtime="process")
    refused = run_lab(lab, "pki", "show")

    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "bring it up with --security mtls" in refused.stderr
    assert not Identities(lab.folder).folder.exists()


def test_a_replica_that_comes_later_has_its_certificate_and_gets_requests(lab: Lab) -> None:
    [_, newcomer] = lab.units.scale("ml-cluster-1", 2)
    try:
        assert lab.certificates.show(newcomer)[newcomer].uri == lab.certificates.show(MODEL)[MODEL].uri
        for topology in ("mesh", "gateway", "proxyless"):
            answering = set[str]()

            def ask_again(topology: str = topology, answering: set[str] = answering) -> set[str]:
                homepage = lab.endpoints().callers["homepage"]
                answering.add(call(homepage, USE_CASE, topology, {"user_id": "u1"}).replica)
                return answering

            eventually(f"{newcomer} answers", ask_again, within=SOON, until=lambda names: newcomer in names)
    finally:
        lab.units.scale("ml-cluster-1", 1)


def test_a_fault_that_ends_by_itself_is_healed_by_the_operators_right(lab: Lab) -> None:
    fault = lab.faults.inject("slow", MODEL, for_s=0.5)

    def there() -> list[str]:
        return [each.id for each in lab.faults.active()]

    eventually("it has ended", there, within=SOON, until=lambda ids: fault.id not in ids)
    assert ask(lab, "mesh") == "OK"
