"""A node that refuses an update counts as converged again only once it holds what the control plane has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.routing.document import RouteTable
from models.proto.control.v1 import rules_pb2
from services.controlplane.publishing.in_force import InForce
from services.controlplane.publishing.rules_feed import RulesFeed, Served
from services.rules import RuleSet, Subscriber

NODE = "gateway-1"


def table(default: str) -> RouteTable:
    """One use case with a default of two versions."""
    case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": f"rows@{default}"}
    versions = {"v1": {"cluster": "a"}, "v2": {"cluster": "a"}}
    return RouteTable.from_document(
        {"use_cases": {"Rows": case}, "models": {"rows": {"versions": versions}}, "clusters": {"a": {"replicas": 1}}}
    )


class Gateway:
    """The lab's own subscriber on a stream of the feed, which refuses when asked to.

    Attributes:
        held: the rules in force.
        refuses: whether it refuses the next updates.
        is_frozen: whether it takes none.
    """

    def __init__(self, feed: RulesFeed) -> None:
        self.held = RuleSet()
        self.refuses = self.is_frozen = False
        self._feed = feed
        self._subscriber = Subscriber(
            node=NODE, role="gateway", control_plane="", apply=self._apply, with_endpoints=True
        )
        self._connect()

    async def _apply(self, rules: RuleSet) -> None:
        if self.refuses:
            raise ValueError("not now")
        self.held = rules

    def _connect(self) -> None:
        self._said: asyncio.Queue[rules_pb2.SubscribeRequest] = asyncio.Queue()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        hello = rules_pb2.SubscribeRequest(node=NODE, role="gateway", with_endpoints=True)
        is_first = True
        async for update in self._feed.serve(hello, self._requests(), NODE):
            while self.is_frozen:
                await asyncio.sleep(0)
            error = await self._subscriber._put_in_force(update, is_first=is_first)
            is_first = is_first and bool(error)
            self._said.put_nowait(rules_pb2.SubscribeRequest(applied_sequence=update.sequence, error=error))

    async def _requests(self) -> AsyncIterator[rules_pb2.SubscribeRequest]:
        while True:
            yield await self._said.get()

    async def leave(self) -> None:
        """Ends its stream."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def reconnect(self) -> None:
        """Ends its stream, and begins another one with the rules that it has."""
        await self.leave()
        self._connect()


async def settled() -> None:
    """Lets every task run until nothing is left to do: none of them waits for anything but each other."""
    for _ in range(60):
        await asyncio.sleep(0)


def counts_as_converged(feed: RulesFeed) -> bool:
    """Whether a publish would take the node for one that has applied all."""
    [node] = feed.subscribers
    return node.applied >= feed.subscribers.generation


def assert_it_holds_all(feed: RulesFeed, gateway: Gateway) -> None:
    sent = {key: tuple(each.addresses) for key, each in feed._endpoints.items()}
    assert {key: gateway.held.endpoints.get(key) for key in sent} == sent
    defaults = {name: each.default.key for name, each in gateway.held.router.use_cases.items()}
    assert defaults == {
        "Rows": f"rows.{feed._in_force.table.document['use_cases']['Rows']['default'].partition('@')[2]}"
    }


async def played(script: list[tuple[Any, ...]]) -> None:
    feed = RulesFeed(lambda: 0)
    revision = 1
    feed.publish_rules(InForce(revision, table("v1")))
    gateway = Gateway(feed)
    await settled()
    for step, *values in script:
        match step:
            case "endpoints":
                key, place = values
                feed.publish_endpoints({key: Served(key, "a", (f"10.0.0.{place}:1",))})
            case "rules":
                revision += 1
                feed.publish_rules(InForce(revision, table(*values)))
            case "refuse":
                [gateway.refuses] = values
            case "freeze":
                [gateway.is_frozen] = values
            case "reconnect" if not gateway.is_frozen:
                await gateway.reconnect()
        await settled()
        if not gateway.is_frozen and counts_as_converged(feed):
            assert_it_holds_all(feed, gateway)
    gateway.refuses = gateway.is_frozen = False
    await settled()
    feed.publish_rules(InForce(revision + 1, table("v1")))
    feed.publish_rules(InForce(revision + 2, table("v2")))
    await settled()
    assert counts_as_converged(feed)
    assert_it_holds_all(feed, gateway)
    await gateway.leave()


async def test_one_that_refuses_endpoints_and_accepts_the_next_update_has_both() -> None:
    await played([("refuse", True), ("endpoints", "rows.v1", 1), ("refuse", False), ("endpoints", "rows.v2", 2)])


async def test_what_was_under_way_when_it_refused_does_not_count() -> None:
    await played(
        [
            ("freeze", True),
            ("endpoints", "rows.v1", 1),
            ("endpoints", "rows.v2", 2),
            ("rules", "v2"),
            ("refuse", True),
            ("freeze", False),
            ("refuse", False),
            ("endpoints", "rows.v2", 3),
        ]
    )


STEPS = st.one_of(
    st.tuples(st.just("endpoints"), st.sampled_from(["rows.v1", "rows.v2"]), st.integers(1, 3)),
    st.tuples(st.just("rules"), st.sampled_from(["v1", "v2"])),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("freeze"), st.booleans()),
    st.tuples(st.just("reconnect")),
)


@given(st.lists(STEPS, max_size=12))
def test_who_counts_as_converged_answers_by_the_revision(script: list[tuple[Any, ...]]) -> None:
    asyncio.run(played(script))


@pytest.mark.parametrize("refuses", [False, True])
async def test_a_full_state_is_sent_after_a_refusal_only(*, refuses: bool) -> None:
    feed = RulesFeed(lambda: 0)
    feed.publish_rules(InForce(1, table("v1")))
    gateway = Gateway(feed)
    await settled()
    gateway.refuses = refuses
    feed.publish_endpoints({"rows.v1": Served("rows.v1", "a", ("10.0.0.1:1",))})
    await settled()
    gateway.refuses = False
    seen: list[bool] = []
    before = gateway._subscriber._put_in_force

    async def look(update: rules_pb2.RulesUpdate, *, is_first: bool) -> str:
        seen.append(update.full)
        return await before(update, is_first=is_first)

    gateway._subscriber._put_in_force = look  # type: ignore[method-assign] # to see what comes
    feed.publish_endpoints({"rows.v2": Served("rows.v2", "a", ("10.0.0.2:1",))})
    await settled()

    assert seen == [refuses]
    assert_it_holds_all(feed, gateway)
    await gateway.leave()
