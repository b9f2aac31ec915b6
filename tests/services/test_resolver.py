from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import grpc.aio
import pytest

from lab.transport import open_channel
from models.context import write_context
from models.proto.control.v1 import resolver_pb2, resolver_pb2_grpc
from services.resolver.watchers import HOLD_S
from tests.parts import ControlPlane, resolver_up, update, use_case
from tests.waiting import eventually

ROWS = {"HomepageRows": use_case("rows@v1", timeout="250ms")}


@asynccontextmanager
async def stub(address: str) -> AsyncIterator[resolver_pb2_grpc.ResolverAsyncStub]:
    async with open_channel(address) as channel:
        yield resolver_pb2_grpc.ResolverStub(channel)


async def next_of(
    watch: grpc.aio.StreamStreamCall[resolver_pb2.WatchRequest, resolver_pb2.WatchResponse],
) -> resolver_pb2.WatchResponse:
    """The next message of a stream that has not ended."""
    message = await watch.read()
    assert isinstance(message, resolver_pb2.WatchResponse)
    return message


def acknowledged(revision: int) -> resolver_pb2.WatchRequest:
    """What a client writes that uses leases of this revision, and no other."""
    return resolver_pb2.WatchRequest(revision=revision, sent=1.5)


async def hold(
    watch: grpc.aio.StreamStreamCall[resolver_pb2.WatchRequest, resolver_pb2.WatchResponse], revision: int
) -> None:
    """Acknowledges a revision that is announced, and gets a hold."""
    assert (await next_of(watch)).revision == revision
    await watch.write(acknowledged(revision))
    held = await next_of(watch)
    assert (held.revision, held.sent, held.hold.ToMilliseconds()) == (revision, 1.5, HOLD_S * 1_000)


def question(name: str, **context: str) -> resolver_pb2.ResolveRequest:
    request = resolver_pb2.ResolveRequest(use_case=name)
    write_context(request.context, context)
    return request


async def refused(
    resolver: resolver_pb2_grpc.ResolverAsyncStub, request: resolver_pb2.ResolveRequest
) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await resolver.Resolve(request)
    return caught.value.code(), caught.value.details() or ""


async def test_a_decision_has_target_configuration_and_lease(control_plane: ControlPlane) -> None:
    document = use_case(
        "rows@v1", timeout="250ms", rules=[{"name": "tv", "when": {"device": ["tv"]}, "use": "rows@v2"}]
    )
    async with (
        resolver_up(control_plane.address, lease_ttl_s=1.5, max_stale_s=60) as address,
        stub(address) as resolver,
    ):
        versions = {"rows.v1": {}, "rows.v2": {"depth": 3}}
        await control_plane.put_in_force(update(5, use_cases={"HomepageRows": document}, versions=versions), "resolver")
        decision = await resolver.Resolve(question("HomepageRows", device="tv"))
        assert (decision.routing_key, decision.rule, decision.revision) == ("rows.v2", "tv", 5)
        assert (decision.model_config.model, decision.model_config.version) == ("rows", "v2")
        assert decision.model_config.parameters["depth"] == 3
        assert list(decision.lease.reads) == ["device", "override"]
        assert decision.lease.ttl.ToMilliseconds() == 1_500
        assert decision.lease.max_stale.seconds == 60
        assert decision.timeout.ToMilliseconds() == 250
        assert (await resolver.Resolve(question("HomepageRows"))).rule == "default"


async def test_refusals_name_the_use_case_and_the_reason(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        code, message = await refused(resolver, question("HomepageRows"))
        assert (code, message) == (
            grpc.StatusCode.UNAVAILABLE,
            "use case 'HomepageRows': resolver resolver has no rules yet",
        )
        documents = {**ROWS, "FraudDetection": use_case("fraud@v1", callers=("payments",))}
        await control_plane.put_in_force(update(1, use_cases=documents), "resolver")

        code, message = await refused(resolver, question("Nonsense"))
        assert code is grpc.StatusCode.NOT_FOUND
        assert "'Nonsense'" in message
        code, message = await refused(resolver, question("FraudDetection"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "'homepage' may not ask for use case 'FraudDetection'" in message
        unreal = question("HomepageRows")
        unreal.context.traffic_origin = 7  # type: ignore[assignment]  # protobuf lets it through
        assert await refused(resolver, unreal) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "HomepageRows: traffic_origin: 7 is not known; write 'real' or 'artificial'",
        )


async def test_a_resolver_beside_a_caller_resolves_for_no_other(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        assert (await resolver.Resolve(question("HomepageRows", caller="homepage"))).routing_key == "rows.v1"
        code, message = await refused(resolver, question("HomepageRows", caller="search"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "HomepageRows" in message
        assert "is for caller homepage only, not for 'search'" in message


async def test_a_shared_resolver_believes_the_request(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address, owner=None) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        assert (await resolver.Resolve(question("HomepageRows", caller="homepage"))).routing_key == "rows.v1"
        code, _ = await refused(resolver, question("HomepageRows"))
        assert code is grpc.StatusCode.PERMISSION_DENIED


async def test_a_watcher_gets_the_revision_at_once_and_every_new_one(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        early = resolver.Watch()
        await early.write(resolver_pb2.WatchRequest())
        control_plane.send(update(3, use_cases=ROWS))
        assert (await next_of(early)).revision == 3
        await early.write(resolver_pb2.WatchRequest(revision=3))
        late = resolver.Watch()
        assert (await next_of(late)).revision == 3
        control_plane.send(update(4, use_cases=ROWS))
        assert [(await next_of(watch)).revision for watch in (early, late)] == [4, 4]
        early.cancel()
        late.cancel()


async def test_a_revision_counts_as_applied_only_once_every_watcher_has_acknowledged_it(
    control_plane: ControlPlane,
) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        prompt, slow = resolver.Watch(), resolver.Watch()
        for watch in (prompt, slow):
            await hold(watch, 1)

        sequence = control_plane.send(update(2, use_cases=ROWS))
        for watch in (prompt, slow):
            assert (await next_of(watch)).revision == 2
        await prompt.write(acknowledged(2))
        await slow.write(acknowledged(1))
        # New questions are answered by the new rules already.
        assert (await resolver.Resolve(question("HomepageRows"))).revision == 2
        assert ("resolver", sequence) not in control_plane.errors

        await slow.write(acknowledged(2))
        assert await control_plane.answered("resolver", sequence) == ""
        prompt.cancel()
        slow.cancel()


async def test_a_silent_watcher_is_disconnected_and_delays_no_publish(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        mute = resolver.Watch()
        await hold(mute, 1)
        await control_plane.put_in_force(update(2, use_cases=ROWS), "resolver")
        assert (await next_of(mute)).revision == 2
        with pytest.raises(grpc.aio.AioRpcError, match="revision 2 not acknowledged") as caught:
            await mute.read()
        assert caught.value.code() is grpc.StatusCode.ABORTED
        # Cut off, it is waited for no more.
        await control_plane.put_in_force(update(3, use_cases=ROWS), "resolver")


async def test_a_watcher_that_does_not_acknowledge_gets_no_hold(control_plane: ControlPlane) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        watch = resolver.Watch()
        await hold(watch, 1)
        sequence = control_plane.send(update(2, use_cases=ROWS))
        assert (await next_of(watch)).revision == 2
        for _ in range(3):
            await watch.write(acknowledged(1))
        assert await control_plane.answered("resolver", sequence) == ""
        with pytest.raises(grpc.aio.AioRpcError, match="revision 2 not acknowledged"):
            await watch.read()


async def test_a_watcher_that_is_cut_off_is_waited_for_as_long_as_it_may_use_its_leases(
    control_plane: ControlPlane,
) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        watch = resolver.Watch()
        before = time.monotonic()
        await hold(watch, 1)
        watch.cancel()
        await control_plane.put_in_force(update(2, use_cases=ROWS), "resolver")
        assert time.monotonic() - before >= HOLD_S


async def test_a_watcher_whose_hold_is_over_is_waited_for_as_it_may_not_know_that_the_resolver_is_back(
    control_plane: ControlPlane,
) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        watch = resolver.Watch()
        await hold(watch, 1)
        over = time.monotonic() + HOLD_S
        await eventually("its hold is over", lambda: time.monotonic() > over)

        sequence = control_plane.send(update(2, use_cases=ROWS))
        assert (await next_of(watch)).revision == 2
        assert (await resolver.Resolve(question("HomepageRows"))).revision == 2
        assert ("resolver", sequence) not in control_plane.errors
        await watch.write(acknowledged(2))
        assert await control_plane.answered("resolver", sequence) == ""
        assert (await next_of(watch)).sent == 1.5
        watch.cancel()


@pytest.mark.parametrize("leave", ["cancel", "half-close"])
async def test_a_watcher_that_has_gone_is_not_waited_for(control_plane: ControlPlane, leave: str) -> None:
    async with resolver_up(control_plane.address) as address, stub(address) as resolver:
        await control_plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        watch = resolver.Watch()
        if leave == "cancel":
            assert (await next_of(watch)).revision == 1
        else:
            await hold(watch, 1)
        sequence = control_plane.send(update(2, use_cases=ROWS))
        assert (await next_of(watch)).revision == 2
        if leave == "cancel":
            watch.cancel()
        else:
            await watch.done_writing()
            assert await watch.read() is grpc.aio.EOF
        assert await control_plane.answered("resolver", sequence) == ""
        watch.cancel()


async def test_a_resolver_answers_while_its_control_plane_is_away() -> None:
    plane = ControlPlane()
    async with AsyncExitStack() as resolvers:
        async with plane.up():
            address = await resolvers.enter_async_context(resolver_up(plane.address))
            await eventually("it subscribes", lambda: plane.hellos)
            await plane.put_in_force(update(1, use_cases=ROWS), "resolver")
        async with stub(address) as resolver:
            decisions = await asyncio.gather(*(resolver.Resolve(question("HomepageRows")) for _ in range(20)))
        assert {decision.revision for decision in decisions} == {1}
