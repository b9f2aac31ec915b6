"""Failover to another cluster while none of a cluster's own replicas can answer."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from lab.errors import RouteTableError
from lab.routing.document import RouteTable, Source, read_sources
from lab.routing.edits import with_use_cases
from tests.parts import Model, update, use_case
from tests.resilience.paths import GONE, TREATED, RequestPath, open_path

KEY = "rows.v1"
OUT = {"outliers": {"errors": 2, "eject": "60s", "at_most": 100}}


async def place(opened: RequestPath, own: list[Model], standby: list[Model], **settings: Any) -> None:
    """The key's own replicas, and those of the failover cluster."""
    # Not a full update: with one of these a gateway keeps what it knew of a key of which it is told no replica.
    message = update(9, use_cases={"HomepageRows": use_case("rows@v1", **settings)}, full=False)
    message.endpoints.add(
        routing_key=KEY,
        cluster="ml-cluster-1",
        addresses=[each.address for each in own],
        standby=[each.address for each in standby],
    )
    await opened.control_plane.put_in_force(message, *opened.nodes)


@pytest.mark.parametrize("topology", TREATED)
async def test_the_failover_cluster_answers_only_while_no_own_replica_can(topology: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, open_path(tmp_path, topology) as opened:
        own = list(opened.replicas)
        other = await stack.enter_async_context(Model(KEY, replica="other").up())

        async def placed(*there: Model, standby: tuple[Model, ...] = (other,)) -> None:
            await place(opened, list(there), list(standby))
            if topology == "proxyless":
                await opened.follow(*(there or standby))
            opened.forget()
            other.seen.clear()

        await placed(*own)
        await opened.ask(20)
        assert not other.seen
        # Of two one is left, which takes all.
        await placed(own[0])
        await opened.ask(20)
        assert (opened.statuses, len(own[0].seen)) == ({"OK": 20}, 20)

        await placed()
        await opened.ask(20)
        assert (opened.statuses, len(other.seen)) == ({"OK": 20}, 20)

        await placed(*own)
        await opened.ask(20)
        assert (opened.statuses, len(other.seen)) == ({"OK": 20}, 0)

        await placed(standby=())
        await opened.ask(5)
        assert opened.statuses == {"UNAVAILABLE": 5}


@pytest.mark.parametrize("topology", TREATED)
async def test_failover_covers_ejected_replicas(topology: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, open_path(tmp_path, topology) as opened:
        own = list(opened.replicas)
        other = await stack.enter_async_context(Model(KEY, replica="other").up())
        await place(opened, own, [other], **OUT)
        own[0].failure = GONE
        await opened.ask(40)
        # One is ejected, and the other takes all.
        assert not other.seen
        own[1].failure = GONE
        await opened.ask_until("the other takes all", lambda: opened.statuses == {"OK": 20}, 20, of_last_batch=True)
        assert len(other.seen) >= 20


@pytest.mark.parametrize("topology", ["gateway", "proxyless"])
async def test_failover_covers_unreachable_replicas(topology: str, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack, open_path(tmp_path, topology) as opened:
        other = await stack.enter_async_context(Model(KEY, replica="other").up())
        async with Model(KEY).up() as dead:
            pass
        await place(opened, [dead], [other])
        await opened.ask(10)
        assert (opened.statuses, len(other.seen)) == ({"OK": 10}, 10)


TABLE = """\
use_cases:
  Rows: {callers: [homepage], api: ranking.v1, timeout: 1s, default: rows@v1}
models:
  rows: {versions: {v1: {cluster: a}}}
clusters:
  a: {replicas: 2, failover: FAILOVER}
  b: {replicas: 2, failover: c}
  c: {replicas: 2}
"""


def read(failover: str) -> RouteTable:
    return read_sources([Source("routes.yaml", TABLE.replace("FAILOVER", failover))])


def test_a_route_table_names_the_failover_cluster() -> None:
    table = read("b")
    assert (table.versions["rows.v1"].cluster, table.versions["rows.v1"].failover) == ("a", "b")
    more = Source("more.yaml", "callers: [x]\napi: ranking.v1\ntimeout: 1s\ndefault: rows@v1")
    assert with_use_cases(table, {"More": more}).versions is table.versions
    with pytest.raises(RouteTableError, match=r"6: clusters\.a\.failover: cluster 'x' is not in clusters"):
        read("x")
    with pytest.raises(RouteTableError, match=r"6: clusters\.a\.failover: is this cluster itself"):
        read("a")
