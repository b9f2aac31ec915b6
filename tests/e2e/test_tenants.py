"""Origin and tenant on their way to the model, and tenants' limits, in a lab that is up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from lab.client import Answer
from lab.errors import CallError
from lab.history import read_parquet, write_parquet
from lab.lab import Lab
from lab.routing.document import read_path
from lab.runs import LoadOptions, RunResult
from lab.topologies import TOPOLOGIES, open_client
from lab.transport import open_blocking_channel
from models.apis import APIS
from models.context import origin_name
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from tests.lab_command import json_of, refusal, run_lab
from tests.labs import ask, drive_all, status_of

USE_CASE = "ContinueWatchingRanking"
IN_DEFAULT_LAB = [each.name for each in TOPOLOGIES.values() if each.in_default_lab]
TENANTS, ORIGINS = ("ads", "kids"), ("real", "artificial")


@pytest.fixture(scope="module")
def mixed(lab: Lab) -> dict[str, RunResult]:
    """A run over each topology, by every tenant and of every origin."""
    contexts = {"tenant": TENANTS, "traffic_origin": ORIGINS, "device": ("phone",)}
    return drive_all(lab, IN_DEFAULT_LAB, rate=60, duration_s=1, contexts=contexts)


@pytest.mark.parametrize("topology", IN_DEFAULT_LAB)
def test_models_see_the_origin_and_the_tenant_that_were_sent(mixed: dict[str, RunResult], topology: str) -> None:
    result = mixed[topology]
    [verdict] = [each for each in result.verdicts if each.checker == "origin"]
    assert verdict.outcome == "valid", verdict.summary
    records = read_parquet(result.folder / "history.parquet")
    assert {(origin, tenant) for origin in ORIGINS for tenant in TENANTS} == {
        (record.seen_origin, record.seen_tenant) for record in records
    }
    assert set(result.summary.by_tenant) == set(TENANTS)
    assert result.summary.ok == sum(each.ok for each in result.summary.by_tenant.values())


@pytest.mark.parametrize("topology", IN_DEFAULT_LAB)
async def test_the_items_of_a_stream_say_so_too(lab: Lab, topology: str) -> None:
    client = open_client(topology, "homepage", lab.endpoints().clients["homepage"])
    context = {"user_id": "u1", "tenant": "ads", "traffic_origin": "real"}
    try:
        await client.ready()
        items: list[Answer] = [
            item async for item in client.stream(USE_CASE, APIS["ranking.v1"].build_request(400), context)
        ]
    finally:
        await client.close()

    seen = [item.response.answered_by for item in items]
    assert {(origin_name(by), by.tenant) for by in seen} == {("real", "ads")}


@pytest.mark.parametrize("topology", IN_DEFAULT_LAB)
def test_an_origin_that_does_not_exist_is_an_invalid_argument(lab: Lab, topology: str) -> None:
    arguments = ("--topology", topology, "--context", "traffic_origin=unreal")

    message = "traffic_origin: 'unreal' is not known; write 'real' or 'artificial'"
    assert f"INVALID_ARGUMENT: {message}" in refusal(run_lab(lab, "call", USE_CASE, *arguments))
    assert message in refusal(run_lab(lab, "load", *arguments, "--duration", "1"), status=3)


def test_a_run_whose_model_saw_another_origin_is_invalid(lab: Lab, tmp_path: Path) -> None:
    run = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=1)).folder
    folder = tmp_path / "elsewhere" / "run"  # where no key is that says that runs are sealed
    shutil.copytree(run, folder)
    first, *others = read_parquet(folder / "history.parquet")
    write_parquet([replace(first, seen_origin="real"), *others], folder / "history.parquet")
    (folder / "seal.json").unlink()

    judged = json_of(run_lab(None, "check", str(folder), "--json"), statuses=(1,))

    [verdict] = [each for each in judged["verdicts"] if each["violations"]]
    assert verdict["checker"] == "origin"
    assert "sent as artificial traffic" in verdict["violations"][0]["message"]


# Whose it is is said, so that it has one account; a tenant that anybody may name has one for each who does.
NOISY = {"rate": 0.002, "burst": 2, "callers": ["homepage"]}


@pytest.fixture
def limited(lab: Lab, routes: Path, tmp_path: Path) -> Iterator[Path]:
    """A table in force by which `noisy` may ask each gateway once, and then not for a quarter of an hour."""
    table = tmp_path / "limited.yaml"
    document = {**read_path(routes).document, "tenants": {"noisy": NOISY}}
    table.write_text(json.dumps(document))
    lab.routes.publish(table)
    yield table
    lab.routes.publish(routes)


@pytest.mark.usefixtures("limited")
def test_limits_are_published_shown_and_kept_to_at_every_gateway_and_nowhere_else(lab: Lab) -> None:
    def statuses(topology: str, tenant: str) -> list[str]:
        return [status_of(lab, topology, tenant=tenant) for _ in range(3)]

    request = ranking_pb2.RankRequest()
    request.envelope.use_case = USE_CASE
    request.envelope.context.caller, request.envelope.context.tenant = "homepage", "noisy"
    for gateway in lab.endpoints().shared.addresses_of("gateway"):
        with open_blocking_channel(gateway) as channel:
            rank = ranking_pb2_grpc.RankingStub(channel).Rank
            assert rank(request, timeout=20).answered_by.model == "cw-ranker"
            with pytest.raises(grpc.RpcError) as refused:
                rank(request, timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        for words in ("tenant 'noisy'", USE_CASE, "0.002 requests per second, 0.001 of them at each of 2 gateways"):
            assert words in (refused.value.details() or "")
    for topology in ("gateway", "gateway-passthrough"):
        assert statuses(topology, "noisy") == ["RESOURCE_EXHAUSTED"] * 3
        assert statuses(topology, "quiet") == ["OK"] * 3
    assert statuses("gateway-header", "noisy") == ["OK", "OK", "RESOURCE_EXHAUSTED"]
    with pytest.raises(
        CallError, match=r"tenant 'noisy' is over its rate limit at the central Envoy: tenants\.noisy\.rate"
    ):
        ask(lab, "gateway-header", tenant="noisy")
    for topology, tenant in (("gateway-header", "quiet"), ("mesh", "noisy"), ("proxyless", "noisy")):
        assert statuses(topology, tenant) == ["OK"] * 3

    revision = json_of(run_lab(lab, "routes", "show", "--json"))
    assert revision["document"]["tenants"] == {"noisy": NOISY}
    shown = run_lab(lab, "routes", "diff", str(revision["revision"] - 1), str(revision["revision"])).stdout
    assert "+  noisy:\n+    rate: 0.002\n+    burst: 2\n+    callers: [homepage]\n" in shown
