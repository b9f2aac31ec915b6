"""Tenants' quotas: the arithmetic with a manual clock, then at a gateway, over gRPC and REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.client import Client
from lab.errors import CallError
from lab.routing.limits import Limit
from services.gateway.tenant_quota import Limiter, NotItsTenantError, OverLimitError
from tests.parts import ControlPlane, Model, client_of, gateway_up, rank_request, update, use_case
from tests.services.test_gateway_rest import both_up
from tests.waiting import eventually

ROWS = {"HomepageRows": use_case("rows@v1")}
OF_A_GATEWAY = ("gateway", "gateway-passthrough")
CONTEXT = {"user_id": "u1"}
RATE = (
    "Rows: tenant 'ads' is over its rate limit of 10 requests per second{share}: tenants.ads.rate of the route table; "
    "ask again in {ms} ms"
)
CONCURRENT = (
    "Rows: tenant 'ads' has 1 in flight; its limit of concurrent requests is 2, 1 of them at each of 2 gateways: "
    "tenants.ads.concurrent of the route table"
)


class Clock:
    """A manual clock."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def limiter_of(clock: Clock, replicas: int = 1, most_unnamed: int = 1_024, **limits: Limit) -> Limiter:
    limiter = Limiter(replicas, clock, most_unnamed)
    limiter.put_in_force(limits)
    return limiter


def served(limiter: Limiter, tenant: str, asks: int, caller: str = "", *, proved: bool = False) -> int:
    """How many of ``asks`` requests are admitted, each of which leaves at once."""
    count = 0
    for _ in range(asks):
        with suppress(OverLimitError):
            limiter.leave(limiter.enter(tenant, "Rows", caller, proved=proved))
            count += 1
    return count


def test_a_tenant_gets_its_burst_then_its_rate_and_no_more_however_long_it_rests(clock: Clock) -> None:
    limiter = limiter_of(clock, ads=Limit(rate=10, burst=3))

    assert served(limiter, "ads", 100) == 3
    clock.now += 0.25
    assert served(limiter, "ads", 100) == 2
    clock.now += 0.05
    assert served(limiter, "ads", 100) == 1
    clock.now += 3_600
    assert served(limiter, "ads", 100) == 3


def test_of_a_flood_only_the_rate_is_admitted(clock: Clock) -> None:
    limiter = limiter_of(clock, ads=Limit(rate=50, burst=5))
    let_in = 0
    for _ in range(10_000):  # 1,000 requests per second for 10 s
        let_in += served(limiter, "ads", 1)
        clock.now += 0.001

    assert 503 <= let_in <= 505


def test_requests_in_flight_are_limited_and_refused_ones_cost_nothing(clock: Clock) -> None:
    limiter = limiter_of(clock, ads=Limit(rate=1, burst=3, concurrent=2))
    first, second = limiter.enter("ads", "Rows"), limiter.enter("ads", "Rows")
    assert served(limiter, "ads", 10) == 0

    limiter.leave(first)
    assert served(limiter, "ads", 1) == 1
    limiter.leave(second)
    assert served(limiter, "ads", 1) == 0  # now it is the rate


def test_each_tenant_has_its_own_quota_and_unlisted_ones_the_default(clock: Clock) -> None:
    limiter = limiter_of(clock, ads=Limit(rate=1, burst=1), default=Limit(rate=1, burst=2))

    assert {tenant: served(limiter, tenant, 5) for tenant in ("ads", "kids", "", "default")} == {
        "ads": 1,
        "kids": 2,
        "": 2,
        "default": 2,
    }
    free = limiter_of(clock, ads=Limit(rate=1, burst=1))
    assert (served(free, "kids", 5), served(limiter_of(clock), "ads", 5), free.known) == (5, 5, 1)


@pytest.mark.parametrize(
    ("replicas", "limit", "says"),
    [
        (1, Limit(rate=10, burst=1), RATE.format(share="", ms=100)),
        (2, Limit(rate=10, burst=1), RATE.format(share=", 5 of them at each of 2 gateways", ms=200)),
        (2, Limit(concurrent=2), CONCURRENT),
    ],
)
def test_a_refusal_names_tenant_use_case_limit_and_value(clock: Clock, replicas: int, limit: Limit, says: str) -> None:
    limiter = limiter_of(clock, replicas, ads=limit)
    limiter.enter("ads", "Rows")

    with pytest.raises(OverLimitError) as refused:
        limiter.enter("ads", "Rows")

    assert str(refused.value) == says


def test_a_very_long_name_is_shortened_in_the_message(clock: Clock) -> None:
    limiter = limiter_of(clock, default=Limit(rate=1, burst=1))
    limiter.enter("x" * 100_000, "Rows")

    with pytest.raises(OverLimitError) as refused:
        limiter.enter("x" * 100_000, "Rows")

    assert len(str(refused.value)) < 400


def test_invented_names_take_bounded_memory_and_gain_nothing(clock: Clock) -> None:
    limiter = limiter_of(clock, most_unnamed=100, ads=Limit(rate=1, burst=1), default=Limit(rate=1, burst=1))
    invented = sum(served(limiter, f"t{number}", 1) for number in range(100_000))

    # A bucket each for the first hundred, and one for all the others together.
    assert (invented, limiter.known) == (101, 101)
    assert served(limiter, "ads", 1) == 1
    clock.now += 1  # all are full again, so the oldest are forgotten for newcomers
    assert sum(served(limiter, f"u{number}", 1) for number in range(100)) == 100
    assert limiter.known == 101


def test_with_proved_callers_an_unrestricted_tenant_is_only_a_claim(clock: Clock) -> None:
    limits = {
        "ads": Limit(rate=1, burst=2, callers=frozenset({"search", "homepage"})),
        "kids": Limit(rate=1, burst=2),
        "default": Limit(rate=1, burst=2),
    }
    limiter = limiter_of(clock)
    limiter.put_in_force(limits)

    def taken(caller: str, *tenants: str, proved: bool = True) -> int:
        return sum(served(limiter, tenant, 1, caller, proved=proved) for tenant in tenants)

    # Whose it is share it; what is anybody's each has for itself; and all names without an entry are one.
    assert [taken(caller, "ads", "ads", "ads") for caller in ("search", "homepage")] == [2, 0]
    assert [taken(caller, "kids", "kids", "kids") for caller in ("search", "homepage")] == [2, 2]
    assert [taken(caller, "a", "", "b") for caller in ("search", "homepage")] == [2, 2]
    assert [taken(caller, "kids", "kids", "kids", proved=False) for caller in ("search", "homepage")] == [2, 0]
    with pytest.raises(OverLimitError, match=r"^Rows: search for tenant 'kids' is over its rate limit of 1 "):
        limiter.enter("kids", "Rows", "search", proved=True)
    with pytest.raises(OverLimitError, match=r"^Rows: search is over its rate limit of 1 .*: tenants.default.rate "):
        limiter.enter("", "Rows", "search", proved=True)

    # What was used counts on under other limits, and is forgotten with the entry.
    limiter.put_in_force({**limits, "kids": Limit(rate=1, burst=3)})
    assert (taken("search", "kids"), limiter.known) == (0, 6)
    limiter.put_in_force({"default": Limit(rate=1, burst=2)})
    assert taken("search", "kids", "kids", "kids") == 0


def test_a_long_request_keeps_no_new_tenant_from_its_bucket(clock: Clock) -> None:
    limiter = limiter_of(clock, most_unnamed=2, default=Limit(concurrent=1))
    limiter.enter("stays", "Rows")
    served(limiter, "goes", 1)

    assert [served(limiter, tenant, 1) for tenant in ("a", "b", "c")] == [1, 1, 1]
    assert served(limiter, "stays", 1) == 0


def test_used_tokens_count_under_new_limits(clock: Clock) -> None:
    limiter = limiter_of(clock, ads=Limit(rate=1, burst=5, concurrent=5))
    under_way = [limiter.enter("ads", "Rows") for _ in range(5)]

    limiter.put_in_force({"ads": Limit(rate=100, burst=100, concurrent=6)})
    assert served(limiter, "ads", 1) == 0
    clock.now += 1
    last = limiter.enter("ads", "Rows")
    assert served(limiter, "ads", 1) == 0  # six are in flight

    limiter.put_in_force({"default": Limit(concurrent=6)})  # the same tenant, now without an entry
    assert served(limiter, "ads", 1) == 0
    for account in (*under_way, last):
        limiter.leave(account)
    assert served(limiter, "ads", 1) == 1
    limiter.put_in_force({})
    assert (served(limiter, "ads", 1_000), limiter.known) == (1_000, 0)


@asynccontextmanager
async def limited(
    control_plane: ControlPlane, model: Model, topology: str, tenants: dict[str, Any]
) -> AsyncIterator[Client]:
    async with gateway_up(control_plane.address, replicas=2) as address:
        message = update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]}, tenants=tenants)
        await control_plane.put_in_force(message, "gateway")
        async with client_of(topology, gateway=(address,)) as client:
            yield client


async def outcome_of(client: Client, tenant: str, *, stream: bool) -> str:
    context = {**CONTEXT, "tenant": tenant}
    try:
        if stream:
            async for _ in client.stream("HomepageRows", rank_request(), context):
                pass
        else:
            await client.call("HomepageRows", rank_request(), context)
    except CallError as error:
        return str(error)
    return "OK"


@pytest.mark.parametrize("topology", OF_A_GATEWAY)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_gateway_refuses_requests_over_the_rate_and_serves_other_tenants(
    control_plane: ControlPlane, model: Model, topology: str, *, stream: bool
) -> None:
    async with limited(control_plane, model, topology, {"noisy": {"rate": 0.002, "burst": 4}}) as client:
        said = [await outcome_of(client, "noisy", stream=stream) for _ in range(5)]
        others = [await outcome_of(client, tenant, stream=stream) for tenant in ("quiet", "")]

        assert ["OK", "OK"] == said[:2] == others
        for message in said[2:]:
            assert "RESOURCE_EXHAUSTED" in message
            assert "HomepageRows: tenant 'noisy' is over its rate limit of 0.002 requests per second" in message
            assert "0.001 of them at each of 2 gateways: tenants.noisy.rate" in message
    assert len(model.seen) == 4  # what was refused never reached it


@pytest.mark.parametrize("topology", OF_A_GATEWAY)
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_cancelled_request_returns_its_quota(
    control_plane: ControlPlane, model: Model, topology: str, *, stream: bool
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        begun.set()
        await go.wait()

    model.before_answer = wait
    async with limited(control_plane, model, topology, {"noisy": {"concurrent": 2}}) as client:
        waiting = asyncio.create_task(outcome_of(client, "noisy", stream=stream))
        await begun.wait()
        message = await outcome_of(client, "noisy", stream=stream)
        assert "tenant 'noisy' has 1 in flight; its limit of concurrent requests is 2" in message

        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        go.set()
        ask = partial(outcome_of, client, "noisy", stream=stream)
        await eventually("the gateway learns of it", ask, until="OK".__eq__)


async def test_over_rest_a_limit_is_429_with_the_same_message(control_plane: ControlPlane, model: Model) -> None:
    body = {"envelope": {"context": {"caller": "homepage", "tenant": "noisy"}}, "titles": [{"id": "t1"}]}
    async with both_up(control_plane) as gateway:
        tenants = {"default": {"rate": 0.001, "burst": 1}}
        message = update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]}, tenants=tenants)
        await control_plane.put_in_force(message, "gateway")

        assert (await gateway.rest("HomepageRows", body))[0] == 200
        status, answer, _ = await gateway.rest("HomepageRows", body)

        assert (status, answer["code"]) == (429, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        assert "tenants.default.rate" in answer["message"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await gateway.grpc("HomepageRows", body)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (refused.value.details() or "").startswith(answer["message"].partition(";")[0])


async def test_refused_callers_use_no_quota(control_plane: ControlPlane, model: Model) -> None:
    body = {"envelope": {"context": {"caller": "search", "tenant": "noisy"}}}
    async with both_up(control_plane) as gateway:
        tenants = {"noisy": {"rate": 0.001, "burst": 1}}
        message = update(1, use_cases=ROWS, endpoints={"rows.v1": [model.address]}, tenants=tenants)
        await control_plane.put_in_force(message, "gateway")

        assert {(await gateway.rest("HomepageRows", body))[0] for _ in range(5)} == {403}
        body["envelope"]["context"]["caller"] = "homepage"
        assert (await gateway.rest("HomepageRows", body))[0] == 200


async def test_limits_change_without_a_new_revision_of_the_rules(control_plane: ControlPlane, model: Model) -> None:
    async with limited(control_plane, model, "gateway", {"noisy": {"rate": 0.001, "burst": 2}}) as client:
        assert await outcome_of(client, "noisy", stream=False) == "OK"
        assert await outcome_of(client, "noisy", stream=False) != "OK"

        await control_plane.put_in_force(update(1, full=False, tenants={}), "gateway")

        assert await outcome_of(client, "noisy", stream=False) == "OK"


class TestCallersOfATenant:
    """The table's word, and that of the caller's certificate."""

    def test_another_caller_is_refused_and_the_allowed_ones_are_named(self) -> None:
        limiter = Limiter()
        limiter.put_in_force({"ads": Limit(rate=5, callers=frozenset({"payments"}))})

        with pytest.raises(NotItsTenantError, match=r"caller 'homepage' may not name tenant 'ads'.*: payments"):
            limiter.enter("ads", "Rows", "homepage")
        assert limiter.enter("ads", "Rows", "payments").entry == "ads"

    def test_a_proved_caller_gains_nothing_by_making_names_up(self) -> None:
        limiter = Limiter(clock=lambda: 0.0)
        limiter.put_in_force({"default": Limit(rate=1, burst=2)})

        for name in ("one", "two"):
            limiter.enter(name, "Rows", "homepage", proved=True)
        with pytest.raises(OverLimitError):
            limiter.enter("three", "Rows", "homepage", proved=True)
        limiter.enter("three", "Rows", "search", proved=True)
