"""Leases, with a client, a real resolver, and the model in place of the sidecar."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from lab.client import Client, Endpoints
from lab.client.strategies import Leased
from lab.errors import CallError, ResolverUnreachableError
from lab.routing.attempts import RequestAttempts
from lab.topologies import open_client
from models.proto.ranking.v1 import ranking_pb2
from tests.parts import ControlPlane, Model, rank_request, resolver_up, update, use_case

WITHIN_S = 15.0
TV, PHONE = {"device": "tv", "user_id": "u1"}, {"device": "phone", "user_id": "u1"}
TV_GETS_V2 = use_case("rows@v1", rules=[{"name": "tv", "when": {"device": ["tv"]}, "use": "rows@v2"}])


def count_resolves(client: Any) -> list[str]:
    """Use cases of the questions that the client asks its resolver from now on."""
    asked: list[str] = []
    resolver = client.strategy.resolver
    resolve = resolver.resolve

    async def counted(attempts: RequestAttempts, context: Mapping[str, str], timeout_s: float) -> Any:
        asked.append(attempts.use_case)
        return await resolve(attempts, context, timeout_s)

    resolver.resolve = counted
    return asked


@asynccontextmanager
async def mesh(resolver: str, sidecar: str) -> AsyncIterator[Client]:
    client = open_client("mesh", "homepage", Endpoints({"resolver": (resolver,), "sidecar": (sidecar,)}))
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def leasing(control_plane: ControlPlane, model: Model, lease_ttl_s: float = 30) -> AsyncIterator[Client]:
    """A client whose resolver has the rules of revision 1."""
    async with (
        resolver_up(control_plane.address, lease_ttl_s=lease_ttl_s) as resolver,
        mesh(resolver, model.address) as client,
    ):
        await control_plane.put_in_force(update(1, use_cases={"HomepageRows": TV_GETS_V2}), "resolver")
        await client.ready()
        yield client


async def key_of(client: Client, context: Mapping[str, str], name: str = "HomepageRows") -> tuple[str, int]:
    answer = await client.call(name, rank_request(), context)
    assert answer.response.answered_by.version == answer.routing_key.partition(".")[2]
    return answer.routing_key, answer.revision


async def test_requests_that_agree_in_what_the_rules_read_share_a_lease(
    control_plane: ControlPlane, model: Model
) -> None:
    async with leasing(control_plane, model) as client:
        asked = count_resolves(client)

        assert await key_of(client, TV) == ("rows.v2", 1)
        assert await key_of(client, {**TV, "user_id": "u2", "country": "DE"}) == ("rows.v2", 1)
        assert len(asked) == 1
        assert await key_of(client, PHONE) == ("rows.v1", 1)
        assert len(asked) == 2


async def test_once_a_revision_has_converged_no_older_decision_is_used(
    control_plane: ControlPlane, model: Model
) -> None:
    async with leasing(control_plane, model) as client:
        await control_plane.put_in_force(update(1, use_cases={"HomepageRows": use_case("rows@v1")}), "resolver")
        for revision in range(2, 40):
            version = f"v{revision % 2 + 1}"
            assert (await key_of(client, TV))[1] == revision - 1
            message = update(revision, use_cases={"HomepageRows": use_case(f"rows@{version}")})
            await control_plane.put_in_force(message, "resolver")
            assert await key_of(client, TV) == (f"rows.{version}", revision)


async def test_revisions_under_load_leave_no_old_lease_behind(control_plane: ControlPlane, model: Model) -> None:
    async with leasing(control_plane, model) as client:
        converged, done = 1, False
        checked = 0

        async def load(context: Mapping[str, str]) -> None:
            nonlocal checked
            while not done:
                at_least = converged
                _, revision = await key_of(client, context)
                assert revision >= at_least
                checked += 1

        loads = [asyncio.create_task(load({"device": device})) for device in ("tv", "phone", "car", "fridge") * 2]
        for revision in range(2, 60):
            await control_plane.put_in_force(update(revision, use_cases={"HomepageRows": TV_GETS_V2}), "resolver")
            converged = revision
        done = True
        await asyncio.gather(*loads)
        assert checked > 60


async def test_concurrent_misses_ask_once(control_plane: ControlPlane, model: Model) -> None:
    async with leasing(control_plane, model) as client:
        asked = count_resolves(client)
        keys = await asyncio.gather(*(key_of(client, context) for context in [TV, PHONE] * 20))
        assert keys == [("rows.v2", 1), ("rows.v1", 1)] * 20
        assert len(asked) == 2


async def test_a_cancelled_request_does_not_take_the_answer_from_the_others(
    control_plane: ControlPlane, model: Model
) -> None:
    async with leasing(control_plane, model) as client:
        impatient, patient = (asyncio.create_task(key_of(client, TV)) for _ in range(2))
        await asyncio.sleep(0)
        impatient.cancel()
        assert await patient == ("rows.v2", 1)


async def test_an_expired_lease_is_renewed(control_plane: ControlPlane, model: Model) -> None:
    async with leasing(control_plane, model, lease_ttl_s=0) as client:
        asked = count_resolves(client)
        for _ in range(3):
            await key_of(client, TV)
        assert len(asked) == 3


async def test_without_its_resolver_a_client_uses_its_leases(control_plane: ControlPlane, model: Model) -> None:
    async with resolver_up(control_plane.address) as resolver:
        client = open_client("mesh", "homepage", Endpoints({"resolver": (resolver,), "sidecar": (model.address,)}))
        await control_plane.put_in_force(update(1, use_cases={"HomepageRows": TV_GETS_V2}), "resolver")
        await client.ready()
        await key_of(client, TV)
    try:
        for _ in range(20):
            assert await key_of(client, TV) == ("rows.v2", 1)
        with pytest.raises(ResolverUnreachableError, match=r"HomepageRows: no decision from the resolver") as caught:
            await key_of(client, PHONE)
        assert (caught.value.code, caught.value.attempts) == (grpc.StatusCode.UNAVAILABLE, 0)

        async with resolver_up(control_plane.address, address=resolver):
            await control_plane.put_in_force(update(2, use_cases={"HomepageRows": use_case("rows@v1")}), "resolver")
            # As soon as the resolver can be asked again, it is: the lease is not watched over, so it is not trusted.
            assert isinstance(client.strategy, Leased)
            await client.strategy.watch.ready(WITHIN_S)
            assert await key_of(client, TV) == ("rows.v1", 2)
    finally:
        await client.close()


async def test_instead_of_a_too_stale_lease_the_default_answer_is_used(
    control_plane: ControlPlane, model: Model
) -> None:
    def default_answer(use_case: str, request: Any, context: Mapping[str, str]) -> ranking_pb2.RankResponse:
        assert (use_case, context) == ("HomepageRows", TV)
        return ranking_pb2.RankResponse(titles=[ranking_pb2.RankedTitle(id=request.titles[0].id)])

    async with resolver_up(control_plane.address, lease_ttl_s=0, max_stale_s=0) as resolver:
        endpoints = Endpoints({"resolver": (resolver,), "sidecar": (model.address,)})
        without, with_default = (
            open_client("mesh", "homepage", endpoints, default_answer=answer) for answer in (None, default_answer)
        )
        await control_plane.put_in_force(update(1, use_cases={"HomepageRows": TV_GETS_V2}), "resolver")
        for client in (without, with_default):
            await client.ready()
            await key_of(client, TV)
    try:
        with pytest.raises(CallError, match=r"UNAVAILABLE: HomepageRows: no decision"):
            await key_of(without, TV)
        answer = await with_default.call("HomepageRows", rank_request(), TV, request_id="mine")
        assert (answer.source, answer.routing_key, answer.revision, answer.attempts) == ("default", "", 0, 0)
        assert (answer.response.titles[0].id, answer.request_id) == ("t00", "mine")
    finally:
        await without.close()
        await with_default.close()


async def test_a_resolver_without_rules_cannot_answer(control_plane: ControlPlane, model: Model) -> None:
    async with resolver_up(control_plane.address) as resolver, mesh(resolver, model.address) as client:
        with pytest.raises(CallError, match=r"HomepageRows.*resolver has no rules yet"):
            await key_of(client, TV)


async def test_a_use_case_that_is_withdrawn_is_gone_at_once(control_plane: ControlPlane, model: Model) -> None:
    async with leasing(control_plane, model) as client:
        await key_of(client, TV)
        await control_plane.put_in_force(update(2, full=False, removed_use_cases=["HomepageRows"]), "resolver")
        with pytest.raises(CallError, match="NOT_FOUND"):
            await key_of(client, TV)


async def test_a_client_that_starts_before_its_resolver_finds_it(control_plane: ControlPlane, model: Model) -> None:
    async with resolver_up(control_plane.address) as resolver:
        pass
    async with mesh(resolver, model.address) as client:
        with pytest.raises(CallError, match="UNAVAILABLE"):
            await key_of(client, TV)
        control_plane.send(update(1, use_cases={"HomepageRows": TV_GETS_V2}))
        async with resolver_up(control_plane.address, address=resolver):
            await client.ready()
            assert await key_of(client, TV) == ("rows.v2", 1)
