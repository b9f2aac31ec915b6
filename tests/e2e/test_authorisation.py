"""Who gets what, where everybody has proved who they are: refused at once, with the reason, and the next good call works."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from lab.lab import Lab
from lab.runtime.identities import Identities
from lab.runtime.state import LabState
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SPEC = """
topologies = ["gateway", "gateway-header", "mesh"]
routes = "routes.yaml"
[callers.homepage]
[callers.search]
[gateway]
replicas = 1
"""
ROUTES = """
use_cases:
  ContinueWatchingRanking:
    {callers: [homepage], api: ranking.v1, timeout: 5s, default: cw-ranker@v1}
  SearchRanking:
    {callers: [search], api: ranking.v1, timeout: 5s, default: search-ranker@v1}
models:
  cw-ranker: {versions: {v1: {cluster: ml-cluster-1}}}
  search-ranker: {versions: {v1: {cluster: ml-cluster-2}}}
clusters:
  ml-cluster-1: {replicas: 1}
  ml-cluster-2: {replicas: 1}
tenants:
  ads: {rate: 100, callers: [search]}
"""
KEYS = {"homepage": "cw-ranker.v1", "search": "search-ranker.v1"}
USE_CASES = {"homepage": "ContinueWatchingRanking", "search": "SearchRanking"}
# What nobody waits for may take; the on-demand time-out is a second.
AT_ONCE_S = 0.5
DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("authorisation")
    (folder / "routes.yaml").write_text(ROUTES)
    (folder / "spec.toml").write_text(SPEC)
    lab = Lab(f"test-{secrets.token_hex(3)}", home=folder)
    try:
        lab.up(spec=folder / "spec.toml", security="mtls", runtime="process")
        yield lab
    finally:
        lab.down()


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
    return refused.value.code(), refused.value.details()


def ask(channel: grpc.Channel, message: ranking_pb2.RankRequest, *headers: tuple[str, str]) -> ranking_pb2.RankResponse:
    return ranking_pb2_grpc.RankingStub(channel).Rank(message, metadata=headers, timeout=DEADLINE_S)


@pytest.mark.parametrize("way", ["sidecar", "central_envoy"])
@pytest.mark.parametrize("caller", ["homepage", "search"])
def test_an_envoy_lets_a_caller_use_its_own_keys_and_no_others(lab: Lab, way: str, caller: str) -> None:
    address = getattr(lab.endpoints().clients[caller], way)
    security = as_unit(lab, caller) if way == "central_envoy" else Security()
    [others] = [key for its, key in KEYS.items() if its != caller]
    with open_blocking_channel(address, security) as channel:
        for forged in (others, "nobody.v7", others):
            code, reason = refusal(lambda forged=forged: ask(channel, request(), ("x-routing-key", forged)))
            assert (code, reason) == (
                grpc.StatusCode.UNAVAILABLE,
                f"routing key '{forged}': no such key for this caller",
            )
        answer = ask(channel, request(), ("x-routing-key", KEYS[caller]))
        assert f"{answer.answered_by.model}.{answer.answered_by.version}" == KEYS[caller]


def test_keys_that_somebody_makes_up_leave_nothing_behind_in_a_sidecar(lab: Lab) -> None:
    address = lab.endpoints().clients["homepage"].sidecar
    with open_blocking_channel(address, Security()) as channel:
        ask(channel, request(), ("x-routing-key", KEYS["homepage"]))
        before = _clusters(lab)
        for number in range(500):
            refusal(lambda number=number: ask(channel, request(), ("x-routing-key", f"forged-{number}.v1")))
        assert before == _clusters(lab)
        ask(channel, request(), ("x-routing-key", KEYS["homepage"]))


def _clusters(lab: Lab) -> int:
    admin = LabState.of(lab.folder).plan.unit("homepage-sidecar").admin
    assert admin is not None
    url = f"http://{admin.outside}/stats?format=json&filter=cluster_manager.active_clusters"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return int(json.load(answer)["stats"][0]["value"])


@pytest.mark.parametrize("claimed", ["search", "nobody"])
def test_a_gateway_takes_who_asks_from_the_certificate(lab: Lab, claimed: str) -> None:
    [gateway] = lab.endpoints().gateways
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
    [gateway] = lab.endpoints().gateways
    for caller, may in {"homepage": False, "search": True}.items():
        with open_blocking_channel(gateway, as_unit(lab, caller), peer="gateway") as channel:
            message = request(caller, USE_CASES[caller], tenant="ads")
            if may:
                assert ask(channel, message).answered_by.tenant == "ads"
            else:
                code, reason = refusal(lambda: ask(channel, message))  # noqa: B023 (called at once)
                assert code is grpc.StatusCode.PERMISSION_DENIED
                assert "may not name tenant 'ads'" in reason


def test_a_resolver_answers_none_but_its_caller(lab: Lab) -> None:
    resolver = lab.endpoints().clients["homepage"].resolver

    def resolve(unit: str, claimed: str = "", use_case: str = "ContinueWatchingRanking") -> resolver_pb2.Decision:
        message = resolver_pb2.ResolveRequest(use_case=use_case)
        message.context.caller = claimed
        with open_blocking_channel(resolver, as_unit(lab, unit), peer="resolver") as channel:
            return resolver_pb2_grpc.ResolverStub(channel).Resolve(message, timeout=DEADLINE_S)

    for unit, claimed, use_case, why in (
        ("search", "search", "SearchRanking", "speaks for homepage, not for you, who are search"),
        ("search", "homepage", "ContinueWatchingRanking", "speaks for homepage, not for you, who are search"),
        ("homepage", "search", "SearchRanking", "speaks for homepage, not for caller 'search'"),
        ("homepage", "", "SearchRanking", "homepage"),
    ):
        code, reason = refusal(lambda: resolve(unit, claimed, use_case))  # noqa: B023 (called at once)
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert why in reason
    assert resolve("homepage").routing_key == "cw-ranker.v1"


@pytest.mark.parametrize("unit", ["homepage", "homepage-sidecar"])
def test_a_model_does_not_answer_whoever_asks_in_anothers_name(lab: Lab, unit: str) -> None:
    [model] = [each.address for each in lab.status().units if each.name == "ml-cluster-1-a"]
    with open_blocking_channel(model, as_unit(lab, unit), peer="model") as channel:
        key = ("x-routing-key", "cw-ranker.v1")
        code, reason = refusal(lambda: ask(channel, request("search"), key))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason.endswith("may not ask as caller 'search'")
        assert ask(channel, request("homepage"), key).answered_by.model == "cw-ranker"
