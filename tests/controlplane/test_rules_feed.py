"""What the feed does once for an update, however many nodes get it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from lab.routing.document import RouteTable
from models.proto.control.v1 import rules_pb2
from services.controlplane.publishing.in_force import InForce
from services.controlplane.publishing.rules_feed import RulesFeed

NODES = ("resolver-1", "resolver-2")


class CountedUpdate:
    """An update that counts how often its size is asked for."""

    sequence = sized = 0

    def ByteSize(self) -> int:  # noqa: N802 (protobuf's name)
        self.sized += 1
        return 0


async def _silence() -> AsyncIterator[rules_pb2.SubscribeRequest]:
    await asyncio.Event().wait()
    yield rules_pb2.SubscribeRequest()


async def test_an_update_is_copied_and_measured_once_for_all_resolvers() -> None:
    feed: Any = RulesFeed(lambda: 0)
    counted: Any = CountedUpdate()
    case = {"callers": ["homepage"], "api": "ranking.v1", "default": "rows@v1"}
    table = RouteTable.from_document(
        {
            "use_cases": {"Rows": case},
            "models": {"rows": {"versions": {"v1": {"cluster": "a"}}}},
            "clusters": {"a": {"replicas": 1}},
        }
    )
    hellos = [rules_pb2.SubscribeRequest(node=node, role="resolver") for node in NODES]
    async with (
        aclosing(feed.serve(hellos[0], _silence(), NODES[0])) as one,
        aclosing(feed.serve(hellos[1], _silence(), NODES[1])) as two,
    ):
        await anext(one), await anext(two)  # the full state
        feed.publish_rules(InForce(1, table))
        feed.offer(NODES, counted)
        published, same = await anext(one), await anext(two)
        assert [each.name for each in published.use_cases] == ["Rows"]
        assert published is same
        assert await anext(one) is await anext(two) is counted
    assert counted.sized == 1
