"""Nodes that the lab did not plan: they get no stream, unless the operator admits them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import grpc.aio
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from lab.client.admin_values import ListedNode
from lab.errors import InputError
from lab.identity import Identity
from lab.transport import open_channel
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from services.controlplane.nodes.admission import MAX_STREAMS, Admission, Claim, NodeRefusedError
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.revisions import Registry
from services.controlplane.xds.resources import LISTENER
from tests.controlplane.nodes import ControlPlane, running, table_of
from tests.waiting import eventually

PLANNED = {"proxyless": ["homepage", "search"], "resolver": ["homepage-resolver"], "sidecar": ["homepage-sidecar"]}
HOMEPAGE, SEARCH = Identity("caller", "homepage"), Identity("caller", "search")
UNPLANNED = "is not one that the lab planned; the operator may admit it: lab nodes admit"


@pytest.fixture
async def registry(where: str) -> AsyncIterator[Registry]:
    registry = Registry(where)
    yield registry
    registry.close()


@pytest.fixture
async def planned(tmp_path: Path, timeouts: Timeouts) -> AsyncIterator[ControlPlane]:
    """A control plane that knows the plan, in plaintext."""
    registry = Registry(tmp_path / "registry.sqlite")
    async with running(registry, timeouts, admission=Admission(registry, PLANNED)) as control_plane:
        yield control_plane
    registry.close()


@asynccontextmanager
async def xds_stream(
    control_plane: ControlPlane, node: str, caller: str = "homepage"
) -> AsyncIterator[grpc.aio.StreamStreamCall[discovery_pb2.DiscoveryRequest, discovery_pb2.DiscoveryResponse]]:
    """A client that asks for its listener, and never acknowledges it."""
    async with open_channel(control_plane.address) as channel:
        stream = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel).StreamAggregatedResources()
        who = base_pb2.Node(id=node, cluster=caller)
        await stream.write(discovery_pb2.DiscoveryRequest(node=who, type_url=LISTENER, resource_names=["models"]))
        yield stream


async def refusal_of(control_plane: ControlPlane, node: str, caller: str = "homepage") -> str:
    """Status and reason of a refused xDS stream."""
    async with xds_stream(control_plane, node, caller) as stream:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(stream.read(), 5)
    return f"{caught.value.code().name}: {caught.value.details()}"


def why(admission: Admission, claim: Claim, identity: Identity | None = None) -> str:
    """Why a stream is refused; empty if it is not."""
    try:
        with admission.stream(identity, claim):
            return ""
    except NodeRefusedError as error:
        return f"{error.code.name}: {error}"


async def test_an_unplanned_node_gets_no_stream_is_listed_and_holds_up_no_publish(planned: ControlPlane) -> None:
    await planned.replica("ml-cluster-1", "a")

    reason = await refusal_of(planned, "homepage-evil")
    await planned.publish(table_of({"v1": "ml-cluster-1"}))

    assert reason == f"PERMISSION_DENIED: node 'homepage-evil' (proxyless) {UNPLANNED} homepage-evil"
    [refused] = [each for each in await planned.admin(lambda it: it.nodes()) if each.state == "refused"]
    assert (refused.node, refused.caller, refused.times) == ("homepage-evil", "homepage", 1)
    assert reason.endswith(refused.reason)


async def test_the_stream_of_rules_is_for_planned_nodes_too(planned: ControlPlane) -> None:
    async with open_channel(planned.address) as channel:
        call = rules_pb2_grpc.RulesStub(channel).Subscribe()
        await call.write(rules_pb2.SubscribeRequest(node="evil-resolver", role="resolver"))
        with pytest.raises(grpc.aio.AioRpcError, match=UNPLANNED) as caught:
            await asyncio.wait_for(call.read(), 5)

    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (await planned.follower("homepage-resolver")).updates


async def test_an_admitted_node_gets_its_stream(planned: ControlPlane) -> None:
    await refusal_of(planned, "homepage-evil")

    assert await planned.admin(lambda it: it.admit_node("homepage-evil")) == "homepage"

    await planned.replica("ml-cluster-1", "a")
    await planned.publish(table_of({"v1": "ml-cluster-1"}))
    async with xds_stream(planned, "homepage-evil") as stream:
        answer = await asyncio.wait_for(stream.read(), 5)
        assert isinstance(answer, discovery_pb2.DiscoveryResponse)
        assert answer.type_url == LISTENER
        listed = {(each.node, each.state): each for each in await planned.admin(lambda it: it.nodes())}
    assert listed["homepage-evil", "admitted"].streams == 1
    assert ("homepage-evil", "refused") not in listed
    assert listed["homepage-resolver", "planned"] == ListedNode("homepage-resolver", "resolver", "", "planned", 0)
    assert UNPLANNED in await refusal_of(planned, "homepage-evil", "search")


async def test_a_process_of_a_caller_is_planned_by_its_name_only(registry: Registry) -> None:
    admission = Admission(registry, PLANNED)

    assert why(admission, Claim("homepage-proxyless-0a1b2c", "proxyless", "homepage")) == ""
    for node, caller in (
        ("homepage-proxyless-0a1b2", "homepage"),
        ("homepage-proxyless-evil42x", "homepage"),
        ("search-proxyless-0a1b2c", "homepage"),
        ("payments-proxyless-0a1b2c", "payments"),
        ("homepage-sidecar", "homepage"),
    ):
        assert UNPLANNED in why(admission, Claim(node, "proxyless", caller))


async def test_admission_outlives_the_control_plane_and_reaches_the_others(registry: Registry) -> None:
    first, second = Admission(registry, PLANNED), Admission(registry, PLANNED)
    claim = Claim("homepage-laptop", "proxyless", "homepage", HOMEPAGE.uri)
    assert UNPLANNED in why(second, claim, HOMEPAGE)

    first.admit("homepage-laptop")

    assert why(Admission(registry, PLANNED), claim, HOMEPAGE) == ""
    await eventually("the other has read it", lambda: why(second, claim, HOMEPAGE) == "")
    # A caller may come as itself only.
    assert UNPLANNED in why(second, Claim("homepage-laptop", "proxyless", "search", SEARCH.uri), SEARCH)


async def test_the_caller_of_an_admitted_node_is_unambiguous(registry: Registry) -> None:
    admission = Admission(registry, {"proxyless": ["home", "home-page"]})

    assert admission.admit("home-page-laptop") == "home-page"
    with pytest.raises(InputError, match="for which caller does it act"):
        admission.admit("laptop")
    with pytest.raises(InputError, match="'payments' is not in this lab; there are home, home-page"):
        admission.admit("laptop", "payments")
    why(admission, Claim("laptop", "proxyless", "home"))
    assert admission.admit("laptop") == "home"
    why(admission, Claim("home-desk", "proxyless", "home-page"))
    with pytest.raises(InputError, match="home, home-page"):
        admission.admit("home-desk")


async def test_streams_of_one_identity_are_bounded(registry: Registry) -> None:
    admission = Admission(registry, PLANNED)
    claims = [
        Claim(f"homepage-proxyless-{n:06x}", "proxyless", "homepage", HOMEPAGE.uri) for n in range(MAX_STREAMS + 1)
    ]
    opened = [admission.stream(HOMEPAGE, claim) for claim in claims[:-1]]
    for each in opened:
        each.__enter__()

    assert why(admission, claims[-1], HOMEPAGE) == (
        f"RESOURCE_EXHAUSTED: {HOMEPAGE.uri} has 64 streams already, which is the limit for one identity"
    )
    search = Claim("search-proxyless-000000", "proxyless", "search", SEARCH.uri)
    assert why(admission, search, SEARCH) == ""
    opened[0].__exit__(None, None, None)
    assert why(admission, claims[-1], HOMEPAGE) == ""


async def test_what_one_identity_tries_pushes_out_nothing_that_others_tried(registry: Registry) -> None:
    admission = Admission(registry, PLANNED)
    why(admission, Claim("search-evil", "proxyless", "search", SEARCH.uri), SEARCH)

    for number in range(1_000):
        why(admission, Claim(f"homepage-{number}", "proxyless", "homepage", HOMEPAGE.uri), HOMEPAGE)

    assert len(admission.refused) == 256
    assert admission.refused[0].claim.node == "search-evil"
    assert admission.refused[-1].claim.node == "homepage-999"
