"""Several control planes that serve the revisions of one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing

import pytest

from lab.errors import PublishError, StaleRevisionError
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.records import Phase
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import ControlPlane, running, table_of
from tests.waiting import eventually

ON_1, ON_2 = {"v1": "ml-cluster-1"}, {"v1": "ml-cluster-2"}
NAMES = ("control-plane", "control-plane-2")


@asynccontextmanager
async def up(where: str, timeouts: Timeouts, name: str) -> AsyncIterator[ControlPlane]:
    """One of several, with a replica of each cluster, and once the others could know of it."""
    with closing(Registry(where)) as registry:
        async with running(registry, timeouts, name) as control_plane:
            await eventually("the others can know of it", lambda: name in registry.followers())
            for cluster, replica in (("ml-cluster-1", "a"), ("ml-cluster-2", "bb")):
                await control_plane.replica(cluster, replica)
            yield control_plane


@pytest.fixture
async def both(where: str, timeouts: Timeouts) -> AsyncIterator[list[ControlPlane]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(up(where, timeouts, name)) for name in NAMES]


async def test_what_one_publishes_the_nodes_of_both_act_on_when_it_has_converged(both: list[ControlPlane]) -> None:
    one, other = both
    resolver = await one.follower("homepage-resolver")
    gateway = await other.follower("gateway-1", with_endpoints=True)

    await one.publish(table_of(ON_1))

    assert (resolver.updates[-1].revision, gateway.updates[-1].revision) == (1, 1)
    await eventually("the other has it in force", lambda: other.publisher.revision == 1)
    stored = other.publisher.registry.get(1)
    assert stored is not None
    assert {each.node for each in stored.acknowledgements} == {"gateway-1", "homepage-resolver"}
    phases = [Phase.STORED, Phase.LOADED, Phase.ENDPOINTS, Phase.CONVERGED]
    assert [each.phase for each in stored.events][:4] == phases

    await other.publish(table_of({**ON_1, "v2": "ml-cluster-2"}, "cw-ranker@v2"))

    assert (resolver.updates[-1].revision, gateway.updates[-1].revision) == (2, 2)
    keys = {each.routing_key: each.cluster for update in gateway.updates for each in update.endpoints}
    assert keys == {"cw-ranker.v1": "ml-cluster-1", "cw-ranker.v2": "ml-cluster-2"}


async def test_both_retire_unreferenced_versions_and_record_it_once(both: list[ControlPlane]) -> None:
    one, other = both
    await one.publish(table_of(ON_1))
    await other.publish(table_of(ON_2))

    def retired() -> bool:
        return all(not each.publisher._retiring for each in both)

    await eventually("both have retired revision 1", retired)
    stored = one.publisher.registry.get(2)
    assert stored is not None
    assert [each.phase for each in stored.events].count(Phase.RETIRED) == 1
    for each in both:
        assert not each.publisher.fleet.unready()


async def test_a_node_of_the_other_that_refuses_fails_the_publish_and_both_put_back(both: list[ControlPlane]) -> None:
    one, other = both
    resolver = await one.follower("homepage-resolver")
    gateway = await other.follower("gateway-1", with_endpoints=True)
    await one.publish(table_of(ON_1))
    gateway.refuses = "no"

    with pytest.raises(PublishError, match="control-plane-2: gateway gateway-1 refused: no"):
        await one.publish(table_of({**ON_1, "v2": "ml-cluster-2"}, "cw-ranker@v2"))

    gateway.refuses = ""
    await eventually("the other knows that it failed", lambda: other.publisher.peers.latest == 2)
    assert (one.publisher.revision, other.publisher.revision) == (1, 1)
    await eventually("rules are put back", lambda: resolver.updates[-1].revision == gateway.updates[-1].revision == 1)
    await other.publish(table_of(ON_2))
    assert one.publisher.registry.in_force() == 3


async def test_of_two_publishes_at_once_none_is_lost_or_mixed(both: list[ControlPlane]) -> None:
    one, other = both
    gateway = await other.follower("gateway-1", with_endpoints=True)
    for number in range(4):
        results = await asyncio.gather(
            one.publish(table_of(ON_1)), other.publish(table_of(ON_2)), return_exceptions=True
        )
        lost = [each for each in results if isinstance(each, BaseException)]
        assert all(isinstance(each, StaleRevisionError) for each in lost), lost
        assert len(lost) < 2, number
    in_force = one.publisher.registry.in_force()
    await eventually("both have the same", lambda: one.publisher.revision == other.publisher.revision == in_force)
    assert one.publisher.table.document == other.publisher.table.document == one.publisher.registry.document(in_force)
    cluster = one.publisher.table.versions["cw-ranker.v1"].cluster
    await eventually(
        "nodes have it",
        lambda: [each.cluster for update in gateway.updates for each in update.endpoints][-1] == cluster,
    )


async def test_a_publish_whose_leader_is_lost_is_put_back_and_the_next_goes_through_the_other(
    where: str, timeouts: Timeouts
) -> None:
    async with up(where, timeouts, NAMES[1]) as other:
        follower = await other.follower("homepage-resolver")
        async with up(where, timeouts, NAMES[0]) as one:
            await one.publish(table_of(ON_1))
            deaf = await one.follower("search-resolver")
            deaf.is_deaf = True
            publishing = asyncio.ensure_future(one.publish(table_of({**ON_1, "v2": "ml-cluster-2"}, "cw-ranker@v2")))
            await eventually("its rules are out", lambda: follower.updates[-1].revision == 2)
            publishing.cancel()  # as a kill would
        await eventually("it is put back", lambda: other.publisher.peers.latest == 2)
        assert (follower.updates[-1].revision, other.publisher.revision) == (1, 1)
        stored = other.publisher.registry.get(2)
        assert stored is not None
        assert stored.events[-1].detail == "control plane control-plane was lost during this publish"

        await other.publish(table_of({**ON_1, "v2": "ml-cluster-2"}, "cw-ranker@v2"))

        assert follower.updates[-1].revision == 3
        async with up(where, timeouts, NAMES[0]) as again:
            assert again.publisher.revision == 3
            await again.publish(table_of(ON_2))
            await eventually("both have it", lambda: other.publisher.revision == 4)


async def test_one_that_comes_in_the_midst_of_a_publish_takes_part_in_it(where: str, timeouts: Timeouts) -> None:
    async with up(where, timeouts, NAMES[0]) as one:
        await one.publish(table_of(ON_1))
        one.publisher.timeouts = type(timeouts)(load=10, acknowledge=10, retire=0.05)
        deaf = await one.follower("search-resolver")
        deaf.is_deaf = True
        publishing = asyncio.ensure_future(one.publish(table_of({**ON_1, "v2": "ml-cluster-2"}, "cw-ranker@v2")))
        await eventually("its rules are out", lambda: deaf.updates[-1].revision == 2)
        async with up(where, timeouts, NAMES[1]) as other:
            follower = await other.follower("homepage-resolver")
            await eventually("rules have come", lambda: follower.updates[-1].revision == 2)
            await deaf.leave()
            await publishing
            await eventually("it is in force", lambda: other.publisher.revision == 2)
