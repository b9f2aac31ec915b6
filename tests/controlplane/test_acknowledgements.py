"""When each node followed, the fast path, changes of one use case, and publishing without phases."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from lab.client.admin import AdminClient, Tables
from lab.errors import InputError, PublishError, StaleRevisionError
from lab.routing.document import RouteTable, Source
from lab.routing.edits import with_use_cases
from services.controlplane.publishing.publisher import NOTHING_TO_LOAD, SKIPPED
from services.controlplane.registry.records import Phase
from tests.controlplane.nodes import ControlPlane, table_of
from tests.waiting import eventually

BOTH = {"v1": "ml-cluster-1", "v2": "ml-cluster-1"}
USE_CASE = "ContinueWatchingRanking"
CHANGED = "{callers: [homepage], api: ranking.v1, timeout: 50ms, default: cw-ranker@v2}"


def change(admin: AdminClient, name: str = USE_CASE, text: str = CHANGED, *, expected_revision: int = 0) -> int:
    return admin.publish_change({name: ("change.yaml", text)}, author="ada", expected_revision=expected_revision)


async def test_each_nodes_acknowledgement_is_kept_with_the_revision(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.follower("homepage-resolver")
    await control_plane.follower("gateway-1", with_endpoints=True)

    events = await control_plane.publish(table_of(BOTH))

    stored = control_plane.stored(1)
    assert [(each.node, each.role) for each in stored.acknowledgements] == [
        ("gateway-1", "gateway"),
        ("homepage-resolver", "resolver"),
    ]
    for each in stored.acknowledgements:
        assert stored.created_ns <= events[-2].at_ns <= each.sent_ns <= each.at_ns <= events[-1].at_ns


async def test_a_failed_publish_keeps_the_acknowledgements_it_had(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.follower("search-resolver")
    deaf = await control_plane.follower("shared-resolver")
    await control_plane.publish(table_of(BOTH))
    deaf.is_deaf = True

    with pytest.raises(PublishError, match="resolver shared-resolver"):
        await control_plane.publish(table_of(BOTH, default="cw-ranker@v2"))

    stored = control_plane.stored(2)
    assert stored.events[-1].phase is Phase.FAILED
    assert [each.node for each in stored.acknowledgements] == ["search-resolver"]


async def test_where_nothing_is_to_be_loaded_no_replica_is_asked(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))
    replica.is_deaf = True

    events = await control_plane.publish(table_of(BOTH, default="cw-ranker@v2"))

    assert [event.detail for event in events if event.phase is Phase.LOADED] == [NOTHING_TO_LOAD]
    assert replica.state.revision == 1


async def test_a_rollback_before_retirement_finds_the_old_versions_still_there(control_plane: ControlPlane) -> None:
    control_plane.publisher.timeouts = replace(control_plane.publisher.timeouts, retire=60.0)
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    await control_plane.publish(table_of({"v2": "ml-cluster-1"}, default="cw-ranker@v2"))

    details: list[str] = []

    revision = await control_plane.admin(
        lambda admin: admin.rollback(1, author="ada", progress=lambda seen: details.append(seen.step.detail))
    )

    first, latest = await control_plane.admin(lambda admin: (admin.revision(1), admin.revision()))
    assert (revision, latest.document) == (3, first.document)
    assert NOTHING_TO_LOAD in details


async def test_a_rollback_loads_unloaded_versions_before_it_goes_out(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    await control_plane.publish(table_of({"v2": "ml-cluster-1"}, default="cw-ranker@v2"))
    await eventually("v1 is unloaded", lambda: list(replica.state.loaded) == ["cw-ranker.v2"])

    events = await control_plane.publish(table_of({"v1": "ml-cluster-1"}))

    assert [event.detail for event in events if event.phase is Phase.LOADED] == [""]
    assert "cw-ranker.v1" in replica.state.loaded


async def test_a_change_of_one_use_case_sends_that_one_alone(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(BOTH))

    assert await control_plane.admin(partial(change, expected_revision=1)) == 2
    last = resolver.updates[-1]
    assert [each.name for each in last.use_cases] == [USE_CASE]
    assert not last.model_versions
    expected = table_of(BOTH, default="cw-ranker@v2").document
    assert control_plane.publisher.registry.document(2) == expected


async def test_changes_of_different_use_cases_at_once_both_stay(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))

    await asyncio.gather(*(control_plane.admin(partial(change, name=name)) for name in ("SearchRanking", "UpNext")))

    assert control_plane.publisher.table.document["use_cases"].keys() == {USE_CASE, "SearchRanking", "UpNext"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "callers: [homepage]\napi: ranking.v1\ntimeout: 1s\ndefault: cw-ranker@v9",
            "change.yaml:4: use_cases.",
        ),
        ("callers: [homepage]\napi: ranking.v1\ntimeout: 1s\ndefault: nope@v1", "known: cw-ranker"),
        ("callers: [homepage]\nnonsense: 1", "change.yaml:2: use_cases.UpNext.nonsense: "),
        ("", "change.yaml:1: is empty"),
        ("[", "change.yaml:2: YAML syntax"),
        ("- a", "change.yaml:1: use_cases.UpNext: a list is not a mapping"),
    ],
)
async def test_a_bad_change_is_refused_with_its_line(control_plane: ControlPlane, text: str, message: str) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))

    with pytest.raises(InputError) as caught:
        await control_plane.admin(partial(change, name="UpNext", text=text))
    assert message in str(caught.value)
    assert control_plane.publisher.revision == 1


async def test_a_stale_change_and_a_stale_rollback_are_refused_with_the_revision_in_force(
    control_plane: ControlPlane,
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))
    await control_plane.publish(table_of(BOTH))

    with pytest.raises(StaleRevisionError, match="revision 2 is in force, not 1"):
        await control_plane.admin(partial(change, expected_revision=1))
    with pytest.raises(StaleRevisionError, match="revision 2 is in force, not 1"):
        await control_plane.admin(lambda admin: admin.rollback(1, author="ada", expected_revision=1))


def test_a_changed_table_shares_what_did_not_change() -> None:
    before = table_of(BOTH)

    after = with_use_cases(before, {"UpNext": Source("x", CHANGED)})

    assert after.versions is before.versions
    assert after.document["use_cases"][USE_CASE] is before.document["use_cases"][USE_CASE]
    assert "UpNext" not in before.document["use_cases"]


async def test_without_phases_rules_go_out_before_anything_is_loaded(control_plane: ControlPlane) -> None:
    replica = await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    replica.is_deaf = True  # it would never load v2

    events = await control_plane.publish(
        table_of({"v2": "ml-cluster-1"}, default="cw-ranker@v2"), unsafe_skip_phases=True
    )

    assert [(event.phase, event.detail) for event in events] == [
        (Phase.STORED, ""),
        (Phase.LOADED, SKIPPED),
        (Phase.ENDPOINTS, SKIPPED),
        (Phase.CONVERGED, SKIPPED),
        (Phase.RETIRED, SKIPPED),
    ]
    assert b"cw-ranker@v2" in resolver.updates[-1].use_cases[0].document
    assert "cw-ranker.v2" not in replica.state.loaded


async def test_a_publish_that_takes_long_says_what_it_waits_for(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    deaf = await control_plane.replica("ml-cluster-1", "bb")
    deaf.is_deaf = True
    seen = []

    with pytest.raises(PublishError, match="not loaded within 1 s"):
        await control_plane.publish(table_of(BOTH), waiting=lambda _, waiting: seen.append(waiting))

    assert {(each.phase, each.done, each.total) for each in seen} <= {(Phase.LOADED, 0, 2), (Phase.LOADED, 1, 2)}
    assert "replica bb of ml-cluster-1 lacks" in seen[-1].waiting_for[0]


async def test_a_parameter_that_python_takes_for_equal_is_sent_all_the_same(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    resolver = await control_plane.follower("homepage-resolver")
    one, true = (copy.deepcopy(table_of(BOTH).document) for _ in range(2))
    one["models"]["cw-ranker"]["versions"]["v1"]["config"] = {"boost": 1}
    true["models"]["cw-ranker"]["versions"]["v1"]["config"] = {"boost": True}
    await control_plane.publish(RouteTable.from_document(one))

    await control_plane.publish(RouteTable.from_document(true))

    [version] = resolver.updates[-1].model_versions
    assert version.parameters == b'{"boost":true}'
    assert control_plane.publisher.registry.document(2) == true


async def test_tables_are_fetched_once_and_what_became_of_each_revision_every_time(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(first := {"v1": "ml-cluster-1"}))
    tables: Tables = {}

    (alone,) = await control_plane.admin(lambda admin: admin.revisions(tables))
    await control_plane.publish(table_of(BOTH))
    before, after = await control_plane.admin(lambda admin: admin.revisions(tables))

    assert (alone.in_force, before.in_force, after.in_force) == (True, False, True)
    assert (before.document, after.document) == (table_of(first).document, table_of(BOTH).document)
    assert before.document is alone.document
    with_none = await control_plane.admin(lambda admin: admin.revisions())
    assert [each.document for each in with_none] == [None, None]


async def test_of_what_had_been_replaced_only_revisions_that_are_named_are_fetched(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    for _ in range(60):  # more than are asked for at once
        await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    now_ns = control_plane.publisher.registry.clock.now_ns()
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))

    async def look(tables: Tables | None = None, **which: Any) -> dict[int, bool]:
        seen = await control_plane.admin(lambda admin: admin.revisions(tables, **which))
        return {each.revision: each.document is not None for each in seen}

    assert await look(since_ns=now_ns) == {60: False, 61: False}
    assert await look(since_ns=now_ns, named=[0, 7, 60, 99]) == {7: False, 60: False, 61: False}
    tables: Tables = {}
    whole = await look(tables, since_ns=now_ns, named={0, 7})
    assert whole == {7: True, 60: True, 61: True}
    assert {revision for revision, _ in tables} == whole.keys()
    assert await look(tables) == dict.fromkeys(range(1, 62), True)
