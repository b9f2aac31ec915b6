"""When each node followed, the fast path, changes of one use case, and publishing without phases."""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any

import pytest

from lab.client.admin import AdminClient, Tables
from lab.errors import InputError, PublishError, StaleRevisionError
from lab.routing.document import RouteTable, Source
from lab.routing.edits import with_use_cases
from services.controlplane.publishing.publisher import NOTHING_TO_LOAD, SKIPPED
from services.controlplane.registry.records import Phase
from tests.controlplane.nodes import table_of
from tests.waiting import eventually

if TYPE_CHECKING:
    from lab.client.admin_values import RevisionInfo
    from tests.controlplane.nodes import ControlPlane


BOTH = {"v1": "ml-cluster-1", "v2": "ml-cluster-1"}
USE_CASE = "ContinueWatchingRanking"
CHANGED = "{callers: [homepage], api: ranking.v1, timeout: 50ms, default: cw-ranker@v2}"


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


async def test_of_a_failed_publish_it_is_kept_who_had_followed(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.follower("search-resolver")
    deaf = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(BOTH))
    deaf.is_deaf = True

    with pytest.raises(PublishError, match="resolver homepage-resolver"):
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
    control_plane.publisher.timeouts = type(control_plane.publisher.timeouts)(load=1.0, acknowledge=1.0, retire=60.0)
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    await control_plane.publish(table_of({"v2": "ml-cluster-1"}, default="cw-ranker@v2"))

    def roll_back() -> tuple[int, list[str]]:
        details = []
        with AdminClient(control_plane.address) as admin:
            revision = admin.rollback(1, author="ada", progress=lambda seen: details.append(seen.step.detail))
            assert admin.revision().document == admin.revision(1).document
        return revision, details

    revision, details = await asyncio.to_thread(roll_back)

    assert revision == 3
    assert NOTHING_TO_LOAD in details


async def test_what_is_unloaded_by_now_is_loaded_again_before_a_rollback_goes_out(control_plane: ControlPlane) -> None:
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

    def change() -> int:
        with AdminClient(control_plane.address) as admin:
            return admin.publish_change({USE_CASE: ("change.yaml", CHANGED)}, author="ada", expected_revision=1)

    assert await asyncio.to_thread(change) == 2
    last = resolver.updates[-1]
    assert [each.name for each in last.use_cases] == [USE_CASE]
    assert not last.model_versions
    expected = table_of(BOTH, default="cw-ranker@v2").document
    assert control_plane.publisher.registry.document(2) == expected


async def test_changes_of_different_use_cases_at_once_both_stay(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))

    def change(name: str) -> int:
        with AdminClient(control_plane.address) as admin:
            return admin.publish_change({name: ("change.yaml", CHANGED)}, author="ada")

    await asyncio.gather(*(asyncio.to_thread(change, name) for name in ("SearchRanking", "UpNext")))

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
        ("", "change.yaml: is empty"),
        ("[", "change.yaml:2: YAML syntax"),
        ("- a", "change.yaml:1: use_cases.UpNext: a list is not a mapping"),
    ],
)
async def test_a_bad_change_is_refused_with_its_line(control_plane: ControlPlane, text: str, message: str) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))

    def change() -> None:
        with AdminClient(control_plane.address) as admin:
            admin.publish_change({"UpNext": ("change.yaml", text)}, author="ada")

    with pytest.raises(InputError) as caught:
        await asyncio.to_thread(change)
    assert message in str(caught.value)
    assert control_plane.publisher.revision == 1


async def test_a_stale_change_and_a_stale_rollback_are_told_the_revision_in_force(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.publish(table_of(BOTH))
    await control_plane.publish(table_of(BOTH))

    def change() -> None:
        with AdminClient(control_plane.address) as admin:
            admin.publish_change({USE_CASE: ("change.yaml", CHANGED)}, author="ada", expected_revision=1)

    def roll_back() -> None:
        with AdminClient(control_plane.address) as admin:
            admin.rollback(1, author="ada", expected_revision=1)

    for attempt in (change, roll_back):
        with pytest.raises(StaleRevisionError, match="revision 2 is in force, not 1"):
            await asyncio.to_thread(attempt)


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


async def test_what_takes_its_time_says_whom_it_waits_for(control_plane: ControlPlane) -> None:
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

    def look() -> list[RevisionInfo]:
        with AdminClient(control_plane.address) as admin:
            return admin.revisions(tables)

    (alone,) = await asyncio.to_thread(look)
    await control_plane.publish(table_of(BOTH))
    before, after = await asyncio.to_thread(look)

    assert (alone.in_force, before.in_force, after.in_force) == (True, False, True)
    assert (before.document, after.document) == (table_of(first).document, table_of(BOTH).document)
    assert before.document is alone.document
    with_none = await asyncio.to_thread(lambda: AdminClient(control_plane.address).revisions())
    assert [each.document for each in with_none] == [None, None]


async def test_of_what_had_been_replaced_only_revisions_that_are_named_are_fetched(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    for _ in range(60):  # more than are asked for at once
        await control_plane.publish(table_of({"v1": "ml-cluster-1"}))
    now_ns = control_plane.publisher.registry.clock.now_ns()
    await control_plane.publish(table_of({"v1": "ml-cluster-1"}))

    def look(tables: Tables | None = None, **which: Any) -> dict[int, bool]:
        with AdminClient(control_plane.address) as admin:
            return {each.revision: each.document is not None for each in admin.revisions(tables, **which)}

    assert await asyncio.to_thread(look, since_ns=now_ns) == {60: False, 61: False}
    assert await asyncio.to_thread(look, since_ns=now_ns, named=[0, 7, 60, 99]) == {7: False, 60: False, 61: False}
    tables: Tables = {}
    whole = await asyncio.to_thread(look, tables, since_ns=now_ns, named={0, 7})
    assert whole == {7: True, 60: True, 61: True}
    assert {revision for revision, _ in tables} == whole.keys()
    assert await asyncio.to_thread(look, tables) == dict.fromkeys(range(1, 62), True)
