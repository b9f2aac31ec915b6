from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from lab.errors import RouteTableError, UnknownUseCaseError
from lab.routing.compiled import Choice
from models.proto.serving.v1.serving_pb2 import ModelConfig
from services import rules
from services.rules import DecisionCache, RuleSet, Subscriber, model_config
from tests.parts import ControlPlane, running, update, use_case
from tests.waiting import eventually

CALLER = {"caller": "homepage"}


def test_an_update_changes_only_its_own_entries() -> None:
    before = RuleSet().updated(
        update(1, use_cases={"A": use_case("rows@v1"), "B": use_case("rows@v2")}, endpoints={"rows.v1": ["h:1"]})
    )
    after = before.updated(
        update(
            2,
            use_cases={"B": use_case("rows@v1")},
            endpoints={"rows.v2": ["h:2"]},
            full=False,
            removed_endpoints=["rows.v1"],
        )
    )
    assert [before.router.resolve(name, CALLER).routing_key for name in "AB"] == ["rows.v1", "rows.v2"]
    assert [after.router.resolve(name, CALLER).routing_key for name in "AB"] == ["rows.v1", "rows.v1"]
    assert after.router.revision == 2
    assert after.endpoints == {"rows.v2": ("h:2",)}


def test_a_full_update_replaces_everything() -> None:
    before = RuleSet().updated(update(1, use_cases={"A": use_case("rows@v1")}, endpoints={"rows.v1": ["h:1"]}))
    after = before.updated(update(2, use_cases={"B": use_case("rows@v2")}, endpoints={"rows.v2": ["h:2"]}))
    with pytest.raises(UnknownUseCaseError):
        after.router.resolve("A", CALLER)
    assert after.endpoints == {"rows.v2": ("h:2",)}


def test_a_restarted_control_plane_without_replicas_removes_none() -> None:
    document = {"A": use_case("rows@v1")}
    before = RuleSet().updated(update(1, use_cases=document, endpoints={"rows.v1": ["h:1"], "rows.v2": ["h:2"]}))
    assert before.updated(update(1, use_cases=document)).endpoints == {"rows.v1": ("h:1",)}
    gone = update(1, full=False, removed_endpoints=["rows.v1", "rows.v2"])
    assert before.updated(gone).endpoints == {}


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff"])
def test_an_update_that_is_not_json_is_refused(text: bytes) -> None:
    message = update(1)
    message.use_cases.add(name="A", document=text)
    with pytest.raises(RouteTableError, match="A: is not"):
        RuleSet().updated(message)


def test_a_decision_is_built_once_for_equal_choices() -> None:
    rules = RuleSet().updated(update(3, use_cases={"A": use_case("rows@v1")}, versions={"rows.v1": {"depth": 2}}))
    built: list[Choice] = []

    def build(choice: Choice) -> ModelConfig:
        built.append(choice)
        return model_config(choice)

    decisions = DecisionCache(rules.router, build)
    configs = [decisions.look_up("A", {**CALLER, "user_id": user}) for user in ("u1", "u2")]
    assert (len(built), decisions.revision) == (1, 3)
    assert configs[0] is configs[1]
    assert (configs[0].model, configs[0].version, configs[0].parameters["depth"]) == ("rows", "v1", 2)


def test_cells_that_differ_only_in_parameters_get_their_own_decisions() -> None:
    cells = {name: {"weight": 50, "use": "rows@v1", "config": {"depth": depth}} for name, depth in (("1", 1), ("2", 2))}
    rule = {"name": "ab", "experiment": {"id": 7, "unit": "user_id", "cells": cells}}
    document = {**use_case("rows@v1"), "rules": [rule]}
    rules = RuleSet().updated(update(3, use_cases={"A": document}))
    decisions = DecisionCache(rules.router, model_config)
    depths = {decisions.look_up("A", {**CALLER, "user_id": f"u{number}"}).parameters["depth"] for number in range(20)}
    assert depths == {1, 2}


class Node:
    """A subscriber's service, which refuses the updates it is set to."""

    def __init__(self) -> None:
        self.applied: list[RuleSet] = []
        self.refusal: Exception | None = None

    async def apply(self, rules: RuleSet) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.applied.append(rules)

    @property
    def revision(self) -> int:
        return self.applied[-1].router.revision if self.applied else 0

    @asynccontextmanager
    async def subscribed(self, control_plane: ControlPlane) -> AsyncIterator[None]:
        subscriber = Subscriber(
            node="node", role="gateway", control_plane=control_plane.address, apply=self.apply, with_endpoints=True
        )
        async with running(subscriber):
            yield


async def test_a_subscriber_names_itself_and_acknowledges_updates(control_plane: ControlPlane) -> None:
    node = Node()
    first = control_plane.send(update(1, use_cases={"A": use_case("rows@v1")}))
    async with node.subscribed(control_plane):
        assert await control_plane.answered("node", first) == ""
        assert node.revision == 1
        [hello] = control_plane.hellos
        assert (hello.node, hello.with_endpoints, hello.applied_sequence) == ("node", True, 0)
        second = control_plane.send(update(2, use_cases={"B": use_case("rows@v2")}, full=False))
        assert await control_plane.answered("node", second) == ""
        assert set(node.applied[-1].router.use_cases) == {"A", "B"}


async def test_an_invalid_update_is_refused_and_the_next_one_applied(
    control_plane: ControlPlane,
) -> None:
    node = Node()
    async with node.subscribed(control_plane):
        await eventually("it subscribes", lambda: control_plane.hellos)
        await control_plane.put_in_force(update(1, use_cases={"A": use_case("rows@v1")}), "node")

        unknown_version = update(2, use_cases={"A": use_case("rows@v2")}, versions={}, full=False)
        assert "rows.v2" in await control_plane.answered("node", control_plane.send(unknown_version))
        nonsense = update(2, use_cases={"A": {"nonsense": True}}, versions={}, full=False)
        assert "nonsense" in await control_plane.answered("node", control_plane.send(nonsense))
        node.refusal = RuntimeError("no room")
        assert await control_plane.answered("node", control_plane.send(update(2, full=False))) == "no room"
        node.refusal = None
        assert node.revision == 1

        await control_plane.put_in_force(update(3, full=False), "node")
        assert node.revision == 3
        assert "A" in node.applied[-1].router.use_cases
        assert len(control_plane.hellos) == 1


async def test_within_a_stream_an_older_revision_needs_a_withdrawal(
    control_plane: ControlPlane,
) -> None:
    node = Node()
    async with node.subscribed(control_plane):
        await eventually("it subscribes", lambda: control_plane.hellos)
        await control_plane.put_in_force(update(3, use_cases={"A": use_case("rows@v1")}), "node")

        older = update(2, use_cases={"A": use_case("rows@v2")}, full=False)
        refusal = await control_plane.answered("node", control_plane.send(older))
        assert "revision 2 is older than 3, which is in force and has not been withdrawn" in refusal
        assert node.revision == 3

        older.withdrawn_revision = 3
        assert await control_plane.answered("node", control_plane.send(older)) == ""
        assert node.revision == 2


async def test_a_restarted_control_plane_is_followed_to_an_older_revision() -> None:
    node, lost, returned = Node(), ControlPlane(), ControlPlane()
    async with AsyncExitStack() as subscription:
        async with lost.up():
            await subscription.enter_async_context(node.subscribed(lost))
            await eventually("it subscribes", lambda: lost.hellos)
            await lost.put_in_force(update(2, use_cases={"A": use_case("rows@v1")}), "node")
        returned.address = lost.address
        sequence = returned.send(update(1, use_cases={"A": use_case("rows@v1")}))
        async with returned.up():
            assert await returned.answered("node", sequence) == ""
    assert node.revision == 1


async def test_subscribers_reconnect_to_a_restarted_control_plane() -> None:
    node, lost, returned = Node(), ControlPlane(), ControlPlane()
    async with AsyncExitStack() as subscription:
        async with lost.up():
            await subscription.enter_async_context(node.subscribed(lost))
            await eventually("it subscribes", lambda: lost.hellos)
            await lost.put_in_force(update(1, use_cases={"A": use_case("rows@v1")}), "node")
        assert node.revision == 1

        returned.address = lost.address
        sequence = returned.send(update(2, use_cases={"A": use_case("rows@v2")}))
        async with returned.up():
            assert await returned.answered("node", sequence) == ""
            assert node.revision == 2


async def test_subscribers_reconnect_if_the_stream_ends_during_an_update() -> None:
    node, plane, applying, go_on = Node(), ControlPlane(), asyncio.Event(), asyncio.Event()
    apply = node.apply

    async def slowly(rules: RuleSet) -> None:
        applying.set()
        await go_on.wait()
        await apply(rules)

    node.apply = slowly  # type: ignore[method-assign]
    async with AsyncExitStack() as subscription:
        async with plane.up():
            plane.send(update(1, use_cases={"A": use_case("rows@v1")}))
            await subscription.enter_async_context(node.subscribed(plane))
            await applying.wait()
        go_on.set()
        async with plane.up():
            assert await plane.answered("node", 1) == ""
    assert [rules.router.revision for rules in node.applied] == [1, 1]


async def test_a_process_that_was_stopped_applies_nothing_that_has_come_meanwhile(control_plane: ControlPlane) -> None:
    """A publish that waited for it in vain has left an update in its stream, which is withdrawn by now."""
    node = Node()
    async with node.subscribed(control_plane):
        await eventually("it subscribes", lambda: control_plane.hellos)
        await control_plane.put_in_force(update(1, use_cases={"A": use_case("rows@v1")}), "node")
        control_plane.send(update(2, use_cases={"A": use_case("rows@v2")}, full=False))
        time.sleep(4)  # noqa: ASYNC251 (stops the whole event loop, as SIGSTOP does)

        await eventually("it has subscribed again", lambda: len(control_plane.hellos) == 2)
        await eventually("it has the state in force", lambda: len(node.applied) == 2)

        assert [each.router.revision for each in node.applied] == [1, 1]


async def test_a_process_that_may_have_been_given_up_has_no_rules_until_it_is_told(
    control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "_GIVEN_UP_S", 3.5)
    node = Node()
    async with node.subscribed(control_plane):
        await eventually("it subscribes", lambda: control_plane.hellos)
        await control_plane.put_in_force(update(1, use_cases={"A": use_case("rows@v1")}), "node")
        time.sleep(4)  # noqa: ASYNC251 (the same)

        await eventually("it has the state in force", lambda: len(node.applied) == 3)

        assert [each.router.revision for each in node.applied] == [1, 0, 1]
