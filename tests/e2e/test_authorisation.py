"""Authorisation between units with certificates: refused at once, with the reason; the next good call is answered."""

from __future__ import annotations

import json
import os
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

from lab.errors import LabError
from lab.lab import Lab
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from lab.waiting import eventually
from models.proto.control.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    faults_pb2,
    faults_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    resolver_pb2,
    resolver_pb2_grpc,
    stub_pb2,
    stub_pb2_grpc,
)
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from services.controlplane.api.server import OF_OWNERS
from tests.lab_command import json_of, run_lab
from tests.labs import TWO_CALLERS_ROUTES, address_of

KEYS = {"homepage": "cw-ranker.v1", "search": "search-ranker.v1"}
USE_CASES = {"homepage": "ContinueWatchingRanking", "search": "SearchRanking"}
# Less than the five seconds for which Envoy would hold a request; that it was not held at all, the reason says.
AT_ONCE_S = 4.0
DEADLINE_S = 10.0
SOON = timedelta(seconds=10)


@pytest.fixture(scope="module")
def lab(two_callers_lab: Lab) -> Lab:
    return two_callers_lab


def as_unit(lab: Lab, name: str) -> Security:
    return Security(MTLS, str(Identities(lab.folder).of(name)))


def request(caller: str = "", use_case: str = "", tenant: str = "") -> ranking_pb2.RankRequest:
    made = ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id="t1")])
    made.envelope.use_case, made.envelope.request_id = use_case, secrets.token_hex(4)
    made.envelope.context.caller, made.envelope.context.tenant = caller, tenant
    return made


def refusal(ask: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Status and reason, which must come at once."""
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        ask()
    assert time.monotonic() - began < AT_ONCE_S, refused.value
    return refused.value.code(), refused.value.details() or ""


def ask(channel: grpc.Channel, message: ranking_pb2.RankRequest, *headers: tuple[str, str]) -> ranking_pb2.RankResponse:
    return ranking_pb2_grpc.RankingStub(channel).Rank(message, metadata=headers, timeout=DEADLINE_S)


@pytest.mark.parametrize("envoy", ["sidecar", "central-envoy"])
@pytest.mark.parametrize("caller", ["homepage", "search"])
def test_an_envoy_lets_a_caller_use_its_own_keys_and_no_others(lab: Lab, envoy: str, caller: str) -> None:
    address = lab.endpoints().clients[caller].address_of(envoy)
    security = as_unit(lab, caller) if envoy == "central-envoy" else Security()
    [others] = [key for its, key in KEYS.items() if its != caller]
    with open_blocking_channel(address, security) as channel:
        for forged in (others, "nobody.v7", others):
            code, reason = refusal(partial(ask, channel, request(), ("x-routing-key", forged)))
            assert (code, reason) == (
                grpc.StatusCode.UNAVAILABLE,
                f"routing key '{forged}': no such key for this caller",
            )
        answer = ask(channel, request(), ("x-routing-key", KEYS[caller]))
        assert f"{answer.answered_by.model}.{answer.answered_by.version}" == KEYS[caller]


def test_made_up_keys_leave_nothing_behind_in_a_sidecar(lab: Lab) -> None:
    address = lab.endpoints().clients["homepage"].address_of("sidecar")
    with open_blocking_channel(address, Security()) as channel:
        ask(channel, request(), ("x-routing-key", KEYS["homepage"]))
        before = _clusters(lab)
        for number in range(500):
            refusal(partial(ask, channel, request(), ("x-routing-key", f"forged-{number}.v1")))
        assert _clusters(lab) == before
        ask(channel, request(), ("x-routing-key", KEYS["homepage"]))


def _clusters(lab: Lab) -> int:
    admin = LabState.of(lab.folder).plan.unit("homepage-sidecar").admin
    assert admin is not None
    url = f"http://{admin.outside}/stats?format=json&filter=cluster_manager.active_clusters"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(json.load(answer)["stats"][0]["value"])


@pytest.mark.parametrize("claimed", ["search", "nobody"])
def test_a_gateway_takes_the_caller_from_the_certificate(lab: Lab, claimed: str) -> None:
    [gateway] = lab.endpoints().shared.addresses_of("gateway")
    with open_blocking_channel(gateway, as_unit(lab, "homepage"), peer="gateway") as channel:
        code, reason = refusal(lambda: ask(channel, request(claimed, "SearchRanking")))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason == f"use case 'SearchRanking': you are homepage, and may not ask as caller '{claimed}'"

        code, reason = refusal(lambda: ask(channel, request("", "SearchRanking")))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "homepage" in reason

        answer = ask(channel, request("", "ContinueWatchingRanking"))
        assert answer.answered_by.model == "cw-ranker"


def test_a_gateway_lets_a_caller_name_no_tenant_that_is_anothers(lab: Lab) -> None:
    [gateway] = lab.endpoints().shared.addresses_of("gateway")
    with open_blocking_channel(gateway, as_unit(lab, "search"), peer="gateway") as channel:
        assert ask(channel, request("search", "SearchRanking", tenant="ads")).answered_by.tenant == "ads"
    with open_blocking_channel(gateway, as_unit(lab, "homepage"), peer="gateway") as channel:
        code, reason = refusal(partial(ask, channel, request("homepage", "ContinueWatchingRanking", tenant="ads")))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "may not name tenant 'ads'" in reason


@pytest.fixture
def central_envoy(lab: Lab) -> str:
    address = lab.endpoints().shared.address_of("central-envoy")
    assert address is not None
    return address


@pytest.mark.parametrize("caller", ["homepage", "search"])
def test_the_central_envoy_lets_a_caller_name_no_tenant_that_is_anothers(
    lab: Lab, central_envoy: str, caller: str
) -> None:
    with open_blocking_channel(central_envoy, as_unit(lab, caller)) as channel:
        named = partial(ask, channel, request(caller, USE_CASES[caller], tenant="ads"), ("x-routing-key", KEYS[caller]))
        if caller == "search":
            assert named(("x-tenant", "ads")).answered_by.tenant == "ads"
        else:
            code, reason = refusal(partial(named, ("x-tenant", "ads")))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            assert "may not name tenant 'ads': those who may are in tenants.ads.callers" in reason

        # Nor by leaving the header out, which is to name none, nor by sending two.
        code, reason = refusal(named)
        assert (code, reason.split(": ", 1)[1]) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "x-tenant says '%', the body says 'ads'; name the same tenant in both",
        )
        code, reason = refusal(partial(named, ("x-tenant", "%"), ("x-tenant", "ads")))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert reason.endswith("x-tenant: send none or exactly one")


@pytest.fixture
def limited(lab: Lab, tmp_path: Path) -> Iterator[None]:
    """Tenants without an entry may ask twice, and so may kids, and then not for a quarter of an hour."""
    routes = tmp_path / "routes.yaml"
    limits = "  default: {rate: 0.001, burst: 2}\n  kids: {rate: 0.001, burst: 2}\n  free: {concurrent: 5}\n"
    routes.write_text(TWO_CALLERS_ROUTES + limits)
    lab.routes.publish(routes)
    yield
    routes.write_text(TWO_CALLERS_ROUTES)
    lab.routes.publish(routes)


@pytest.mark.usefixtures("limited")
@pytest.mark.parametrize("edge", ["gateway", "central Envoy"])
def test_a_tenant_that_any_caller_may_name_is_charged_to_the_caller(lab: Lab, central_envoy: str, edge: str) -> None:
    address = central_envoy if edge == "central Envoy" else lab.endpoints().shared.address_of("gateway")

    def statuses(caller: str, tenants: list[str]) -> list[str]:
        found = []
        with open_blocking_channel(address, as_unit(lab, caller)) as channel:
            for tenant in tenants:
                headers = ("x-routing-key", KEYS[caller]), ("x-tenant", tenant)
                try:
                    ask(channel, request(caller, USE_CASES[caller], tenant), *headers)
                    found.append("OK")
                except grpc.RpcError as error:
                    found.append(error.code().name)
        return found

    # Of default's rate each caller has two at once, whatever it calls itself, and nobody uses up another's.
    assert statuses("homepage", ["made-up-1", "made-up-2", "made-up-3"]) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert statuses("search", ["made-up-1", "made-up-2", "made-up-3"]) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    # So it is with a tenant that has an entry without callers, of its own rate.
    assert statuses("homepage", ["kids", "kids", "kids"]) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    assert statuses("search", ["kids", "kids", "kids"]) == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    # What is a caller's own is counted by itself, and nothing is where there is no rate.
    assert statuses("search", ["ads", "free", "free", "free"]) == ["OK"] * 4


def test_a_resolver_answers_none_but_its_caller(lab: Lab) -> None:
    resolver = lab.endpoints().clients["homepage"].address_of("resolver")
    assert resolver is not None

    def resolve(unit: str, claimed: str = "", use_case: str = "ContinueWatchingRanking") -> resolver_pb2.Decision:
        message = resolver_pb2.ResolveRequest(use_case=use_case)
        message.context.caller = claimed
        with open_blocking_channel(resolver, as_unit(lab, unit), peer="resolver") as channel:
            return resolver_pb2_grpc.ResolverStub(channel).Resolve(message, timeout=DEADLINE_S)

    for unit, claimed, use_case, why in (
        ("search", "search", "SearchRanking", "is for caller homepage only; you are search"),
        ("search", "homepage", "ContinueWatchingRanking", "is for caller homepage only; you are search"),
        ("homepage", "search", "SearchRanking", "is for caller homepage only, not for 'search'"),
        ("homepage", "", "SearchRanking", "homepage"),
    ):
        code, reason = refusal(lambda: resolve(unit, claimed, use_case))  # noqa: B023 (called at once)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert why in reason
    assert resolve("homepage").routing_key == "cw-ranker.v1"


@pytest.mark.parametrize("unit", ["homepage", "homepage-sidecar"])
def test_a_model_refuses_a_request_in_another_callers_name(lab: Lab, unit: str) -> None:
    with open_blocking_channel(address_of(lab, "ml-cluster-1-a"), as_unit(lab, unit), peer="model") as channel:
        key = ("x-routing-key", "cw-ranker.v1")
        code, reason = refusal(lambda: ask(channel, request("search"), key))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason.endswith("may not ask as caller 'search'")
        assert ask(channel, request("homepage"), key).answered_by.model == "cw-ranker"


def test_the_central_envoy_tells_a_model_whose_request_it_passes_on(lab: Lab, tmp_path: Path) -> None:
    routes = tmp_path / "routes.yaml"
    routes.write_text(TWO_CALLERS_ROUTES.replace("{callers: [homepage],", "{callers: [homepage, search],"))
    revision = lab.routes.publish(routes, comment="both may use one key")
    key = ("x-routing-key", "cw-ranker.v1")
    try:
        with open_blocking_channel(address_of(lab, "central-envoy"), as_unit(lab, "search")) as channel:
            for forged in ((), (("x-proved-caller", "homepage"),)):
                code, reason = refusal(lambda: ask(channel, request("homepage"), key, *forged))  # noqa: B023 (called at once)
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert reason.endswith("caller 'search' may not ask as caller 'homepage'")
            assert ask(channel, request("search"), key).answered_by.model == "cw-ranker"
    finally:
        lab.routes.rollback(revision - 1)


class TestAudit:
    """Who did what, when; and who was turned away."""

    def test_the_operators_acts_are_logged(self, lab: Lab, tmp_path: Path) -> None:
        began_ns = time.time_ns()
        routes = tmp_path / "routes.yaml"
        routes.write_text(TWO_CALLERS_ROUTES.replace("timeout: 10s, default: cw", "timeout: 11s, default: cw"))
        revision = lab.routes.publish(routes, comment="a second more")
        lab.routes.rollback(revision - 1)
        lab.faults.inject("error", "ml-cluster-1-a")
        lab.faults.heal("all")
        with pytest.raises(LabError):
            lab.routes.rollback(999)

        def acts() -> list[dict[str, Any]]:
            found = json_of(run_lab(lab, "audit", "--json"))["acts"]
            return [each for each in found if each["at_ns"] >= began_ns]

        # A replica reports what is done to it with its next report.
        logged = eventually("the fault is logged", acts, within=SOON, until=lambda seen: len(seen) >= 7)
        operator = "spiffe://lab.internal/operator/cli"
        by_the_lab = [each for each in logged if each["kept_by"] == "lab"]
        assert [each["what"] for each in by_the_lab] == ["fault inject error", "fault heal error"]
        assert all(each["who"].endswith(f"(uid {os.getuid()}) as {operator}") for each in by_the_lab)
        seen = [each for each in logged if each["kept_by"] == "control-plane"]
        assert {each["who"] for each in seen} == {operator}
        done = [(each["unit"], each["what"].rpartition("/")[2], each["status"]) for each in seen]
        assert done[:2] == [("control-plane", "Publish", "OK"), ("control-plane", "Rollback", "OK")]
        assert ("ml-cluster-1-a", "SetBehaviour", "OK") in done
        assert "a second more" in seen[0]["detail"]
        [refused] = [each for each in seen if each["status"] == "NOT_FOUND"]
        assert "revision 999 does not exist" in refused["reason"]

    @pytest.mark.parametrize("unit", ["homepage", "homepage-sidecar", "gateway-1", "ml-cluster-1-a"])
    def test_every_other_units_attempt_at_what_it_may_not_do_is_refused_and_logged(self, lab: Lab, unit: str) -> None:
        began_ns, revision = time.time_ns(), lab.routes.show().revision
        with (
            open_blocking_channel(lab.endpoints().control_plane, as_unit(lab, unit)) as channel,
            open_blocking_channel(address_of(lab, "ml-cluster-2-a"), as_unit(lab, unit)) as to_model,
        ):
            admin, faults = admin_pb2_grpc.AdminStub(channel), faults_pb2_grpc.FaultsStub(channel)
            control = stub_pb2_grpc.StubControlStub(to_model)
            attempts: dict[str, Callable[[], Any]] = {
                "Publish": lambda: next(admin.Publish(admin_pb2.PublishRequest())),
                "PublishChange": lambda: next(admin.PublishChange(admin_pb2.PublishChangeRequest())),
                "Rollback": lambda: next(admin.Rollback(admin_pb2.RollbackRequest(revision=1))),
                "GetStatus": lambda: admin.GetStatus(admin_pb2.GetStatusRequest()),
                "Offer": lambda: faults.Offer(faults_pb2.OfferRequest()),
                "Restate": lambda: faults.Restate(faults_pb2.RestateRequest()),
                "SetBehaviour": lambda: control.SetBehaviour(stub_pb2.Behaviour(error_rate=1)),
                "Reload": lambda: control.Reload(stub_pb2.ReloadRequest()),
            }
            for what, attempt in attempts.items():
                code, reason = refusal(attempt)
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert reason.endswith(f"for the operator{' and owners' if what in OF_OWNERS else ''} only")
            node = base_pb2.Node(id="search-sidecar", cluster="search")
            ads = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
            asked = iter([discovery_pb2.DeltaDiscoveryRequest(node=node)])
            code, _ = refusal(lambda: next(ads.DeltaAggregatedResources(asked)))
            assert code is grpc.StatusCode.PERMISSION_DENIED
            attempts["DeltaAggregatedResources"] = lambda: None

        who = Identities(lab.folder).certificates([unit])[unit].uri

        def turned_away() -> set[str]:
            return {
                each.what.rpartition("/")[2]
                for each in lab.audit().acts
                if (each.who, each.status) == (who, "PERMISSION_DENIED") and each.at_ns >= began_ns
            }

        eventually("every attempt is logged", turned_away, within=SOON, until=lambda seen: seen == attempts.keys())
        assert lab.routes.show().revision == revision


def test_a_gateway_tells_a_caller_the_timeouts_of_its_own_use_cases_alone(lab: Lab) -> None:
    with open_blocking_channel(
        address_of(lab, "gateway-1"), security=as_unit(lab, "homepage"), peer="gateway"
    ) as channel:
        get = partial(gateway_pb2_grpc.GatewayStub(channel).GetTimeout, timeout=DEADLINE_S)

        assert get(gateway_pb2.GetTimeoutRequest(use_case=USE_CASES["homepage"])).timeout.seconds == 10
        for name in (USE_CASES["search"], "NoSuchUseCase"):
            code, reason = refusal(partial(get, gateway_pb2.GetTimeoutRequest(use_case=name)))
            assert code is grpc.StatusCode.NOT_FOUND
            assert name in reason
