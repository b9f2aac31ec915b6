"""What every store of a registry must do: one suite, held against SQLite and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any

import pytest

from lab.errors import RegistryError, StaleRevisionError
from lab.transport.rpc_logs import Act
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.records import Acknowledgement, Phase, StoredReplica
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import running, table_of
from tests.waiting import eventually

DOCUMENT: dict[str, Any] = {"use_cases": {}, "models": {}, "clusters": {"ml-cluster-1": {"replicas": 1}}}
ACT = Act(1_700_000_000_000_000_000, "spiffe://lab.internal/operator/cli", "control-plane", "Admin/Publish", "a.yaml")
WITHIN_S = 10


@pytest.fixture
def registry(where: str) -> Iterator[Registry]:
    with closing(Registry(where)) as registry:
        yield registry


@pytest.fixture
def other(where: str, registry: Registry) -> Iterator[Registry]:
    """Another control plane's registry, of the same store."""
    assert registry.latest() == 0
    with closing(Registry(where)) as other:
        yield other


def test_control_planes_that_come_at_the_same_moment_all_find_a_new_store(where: str) -> None:
    at_once = 8
    all_are_here = threading.Barrier(at_once, timeout=WITHIN_S)

    def come() -> int:
        all_are_here.wait()
        with closing(Registry(where)) as store:
            return store.latest()

    with ThreadPoolExecutor(at_once) as control_planes:
        found = [control_planes.submit(come) for _ in range(at_once)]

    assert [each.result() for each in found] == [0] * at_once


def test_revisions_count_up_from_one_and_keep_what_was_published(registry: Registry) -> None:
    assert registry.append(DOCUMENT, author="ada", comment="first", created_ns=7)[0] == 1
    assert registry.append({**DOCUMENT, "clusters": {}}, author="bob", comment="second")[0] == 2

    first = registry.get(1)

    assert first is not None
    assert (registry.document(1), first.author, first.comment, first.created_ns) == (DOCUMENT, "ada", "first", 7)
    assert [each.phase for each in first.events] == [Phase.STORED]
    assert [each.revision for each in registry.all()] == [1, 2]
    assert registry.get(3) is None


def test_the_revision_in_force_is_the_latest_that_converged(registry: Registry) -> None:
    assert (registry.in_force(), registry.latest()) == (0, 0)
    for phases in ((Phase.CONVERGED,), (Phase.LOADED, Phase.FAILED), ()):
        revision, _ = registry.append(DOCUMENT, author="ada", comment="")
        for phase in phases:
            registry.record(revision, phase)

    assert (registry.in_force(), registry.latest()) == (1, 3)
    assert registry.unfinished() == [3]


def test_what_had_been_replaced_by_a_time_can_be_left_out(registry: Registry) -> None:
    def publish(*phases: Phase) -> int:
        revision, event = registry.append(DOCUMENT, author="ada", comment="")
        return max([event.at_ns, *(registry.record(revision, phase).at_ns for phase in phases)])

    def since(time_ns: int) -> list[int]:
        return [each.revision for each in registry.all(time_ns)]

    assert since(registry.clock.now_ns()) == []
    first, second = publish(Phase.LOADED, Phase.CONVERGED), publish(Phase.CONVERGED, Phase.RETIRED)
    publish(Phase.LOADED, Phase.FAILED)
    fourth = publish(Phase.CONVERGED)

    assert since(0) == since(first - 1) == since(first) == [1, 2, 3, 4]
    # The second converged before it retired what it replaced, and what failed replaced nothing.
    assert since(second) == since(fourth - 1) == [2, 3, 4]
    assert since(fourth) == since(fourth + 10**12) == [4]


def test_acknowledgements_of_a_revision_are_kept_in_order(registry: Registry) -> None:
    revision, _ = registry.append(DOCUMENT, author="ada", comment="")
    acknowledgements = (Acknowledgement("b", "sidecar", 1, 2), Acknowledgement("a", "resolver", 3, 2**60))
    registry.record(revision, Phase.CONVERGED, "all of them", acknowledgements)

    stored = registry.get(revision)

    assert stored is not None
    assert acknowledgements == stored.acknowledgements
    assert stored.events[-1].detail == "all of them"


@pytest.mark.parametrize("again", [Phase.CONVERGED, Phase.FAILED])
def test_a_revision_comes_to_its_end_once(registry: Registry, other: Registry, again: Phase) -> None:
    revision, _ = registry.append(DOCUMENT, author="ada", comment="")
    registry.record(revision, Phase.CONVERGED)

    with pytest.raises(StaleRevisionError, match="revision 1 has converged already"):
        other.record(revision, again)

    other.record(revision, Phase.RETIRED)
    with pytest.raises(StaleRevisionError, match="retired already"):
        registry.record(revision, Phase.RETIRED)


def test_what_followers_report_of_a_revision_is_read_by_others(registry: Registry, other: Registry) -> None:
    revision, _ = registry.append(DOCUMENT, author="ada", comment="")
    other.report(revision, Phase.LOADED, "control-plane-2", acknowledgements=[Acknowledgement("a", "resolver", 1, 2)])
    other.report(revision, Phase.LOADED, "control-plane-3", error="no replica")
    other.report(revision, Phase.ENDPOINTS, "control-plane-2")

    assert registry.reports(revision, Phase.LOADED) == {"control-plane-2": "", "control-plane-3": "no replica"}
    stored = registry.get(revision)
    assert stored is not None
    assert [each.node for each in stored.acknowledgements] == ["a"]


def test_a_new_follower_learns_of_all_unfinished_revisions(registry: Registry) -> None:
    assert registry.resume_at() == (0, 0)
    for phase in (Phase.CONVERGED, Phase.FAILED):
        registry.record(registry.append(DOCUMENT, author="ada", comment="")[0], phase)
    latest = registry.latest_event()
    assert latest is not None
    assert registry.resume_at() == (latest.number, 2)
    registry.append(DOCUMENT, author="ada", comment="")
    registry.record(3, Phase.LOADED)
    assert registry.resume_at() == (latest.number, 2)
    assert (registry.has_failed(1), registry.has_failed(2), registry.has_failed(3)) == (False, True, False)


def test_changes_are_stored_alone_and_read_by_others(registry: Registry, other: Registry) -> None:
    entries = {f"UseCase{number}": {"default": "cw-ranker@v1"} for number in range(100)}
    documents = [{**DOCUMENT, "use_cases": {**entries, "UseCase7": {"default": f"ü@v{n}"}}} for n in range(20)]
    before = None
    for document in documents:
        revision, _ = registry.append(document, author="ada", comment="", replaces=before)
        before = (revision, document)

    assert [other.document(number + 1) for number in range(20)] == documents
    bases = registry._db.rows("SELECT base FROM revisions")
    assert sum(base is not None for [base] in bases) > 1


def test_acts_outlive_the_process_and_are_listed_oldest_first(where: str) -> None:
    with closing(Registry(where)) as registry:
        numbers = [registry.begin_act(ACT) for _ in range(3)]
        registry.end_act(numbers[0], "OK", "well")

    with closing(Registry(where)) as registry:
        assert registry.acts() == [
            (numbers[0], ACT, "OK", "well"),
            (numbers[1], ACT, "", ""),
            (numbers[2], ACT, "", ""),
        ]
        assert [number for number, *_ in registry.acts(2)] == numbers[1:]


def test_remembered_replicas_are_those_saved_last(registry: Registry, other: Registry) -> None:
    a = StoredReplica("ml-cluster-1", "ml-cluster-1-a", "127.0.0.1:1", ("cw-ranker.v1", "cw-ranker.v2"))
    registry.save_replicas([a, StoredReplica("ml-cluster-1", "ml-cluster-1-b", "127.0.0.1:2", ())], ["ml-cluster-1"])
    other.save_replicas([a], ["ml-cluster-1"])

    assert registry.replicas() == [a]


@pytest.mark.parametrize("table", ["revisions", "events", "acknowledgements", "reports", "acts", "outcomes"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}"])
def test_history_cannot_be_rewritten(registry: Registry, table: str, statement: str) -> None:
    revision, _ = registry.append(DOCUMENT, author="ada", comment="")
    registry.record(revision, Phase.CONVERGED, "", [Acknowledgement("a", "resolver", 1, 2)])
    registry.report(revision, Phase.LOADED, "control-plane-2")
    registry.end_act(registry.begin_act(ACT), "OK", "")
    column = {"acts": "at_ns = 1", "outcomes": "at_ns = 1"}.get(table, "revision = revision")

    with pytest.raises(RegistryError, match=f"{table} are append-only"):
        registry._db.rows(statement.format(table, column))

    assert registry.in_force() == revision


def test_a_revision_is_stored_only_after_the_one_that_its_publisher_saw(registry: Registry, other: Registry) -> None:
    registry.append(DOCUMENT, author="ada", comment="", after=0)

    with pytest.raises(StaleRevisionError, match=r"revision 1 has been stored since.*publish again"):
        other.append(DOCUMENT, author="bob", comment="", after=0)

    assert other.append(DOCUMENT, author="bob", comment="", after=1)[0] == 2
    assert [each.author for each in registry.all()] == ["ada", "bob"]


def test_of_many_publishers_at_once_each_revision_has_one_predecessor(where: str) -> None:
    won: list[int] = []
    stores = 4

    def publish() -> None:
        with closing(Registry(where)) as store:
            for _ in range(25):
                latest = store.latest()
                try:
                    won.append(store.append(DOCUMENT, author="ada", comment="why", after=latest)[0])
                except StaleRevisionError:
                    continue
                assert won[-1] >= latest + 1

    Registry(where).close()
    threads = [threading.Thread(target=publish) for _ in range(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == list(range(1, len(won) + 1))
    with closing(Registry(where)) as store:
        assert [each.revision for each in store.all()] == sorted(won)
        numbers = [each.number for each in store.events(0)]
    assert numbers == sorted(numbers)
    assert len(won) == len(numbers) >= 25


async def test_a_follower_learns_of_what_others_store(registry: Registry, other: Registry) -> None:
    registry.append(DOCUMENT, author="ada", comment="before it came")
    async with asyncio.timeout(WITHIN_S), aclosing(other.follow("control-plane-2")) as events:
        first = await anext(events)
        following = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        assert not following.done()
        registry.record(1, Phase.CONVERGED)
        second = await following
        revision, _ = other.append(DOCUMENT, author="bob", comment="its own")
        third = await anext(events)

    assert [(each.revision, each.event.phase) for each in (first, second, third)] == [
        (1, Phase.STORED),
        (1, Phase.CONVERGED),
        (revision, Phase.STORED),
    ]
    assert first.number < second.number < third.number


async def test_a_follower_that_was_away_goes_on_where_it_was(registry: Registry, other: Registry) -> None:
    async with asyncio.timeout(WITHIN_S):
        registry.append(DOCUMENT, author="ada", comment="")
        async with aclosing(other.follow("control-plane-2")) as events:
            seen = (await anext(events)).number
        for _ in range(20):
            registry.append(DOCUMENT, author="ada", comment="")
        async with aclosing(other.follow("control-plane-2", seen)) as events:
            found = [(await anext(events)).revision for _ in range(20)]

    assert found == list(range(2, 22))


_FOLLOWER = """
import asyncio, sys
from services.controlplane.registry.revisions import Registry
async def follow():
    async for happened in Registry(sys.argv[1]).follow("control-plane-2"):
        print(happened.revision, flush=True)
asyncio.run(follow())
"""


async def test_a_follower_is_known_for_as_long_as_its_process_lives(registry: Registry, where: str) -> None:
    registry.append(DOCUMENT, author="ada", comment="")
    assert registry.followers() == set()
    pipe = asyncio.subprocess.PIPE
    follower = await asyncio.create_subprocess_exec(sys.executable, "-c", _FOLLOWER, where, stdout=pipe)
    try:
        assert follower.stdout is not None
        assert await follower.stdout.readline() == b"1\n"
        assert registry.followers() == {"control-plane-2"}
        follower.send_signal(signal.SIGSTOP)  # frozen, it lives
        assert registry.followers() == {"control-plane-2"}
    finally:
        follower.kill()
        await follower.wait()
    await eventually("it is known to be gone", lambda: not registry.followers())


async def test_a_control_plane_publishes_and_its_successor_goes_on(where: str, timeouts: Timeouts) -> None:
    for cluster in ("ml-cluster-1", "ml-cluster-2"):
        with closing(Registry(where)) as registry:
            async with running(registry, timeouts) as control_plane:
                in_force = control_plane.publisher.revision
                await control_plane.replica(cluster, "a")
                await control_plane.publish(table_of({"v1": cluster}))
    assert in_force == 1
    with closing(Registry(where)) as registry:
        assert registry.in_force() == 2
        assert registry.document(2)["clusters"] == {"ml-cluster-2": {"replicas": 1}}


_WRITER = """
import sys
from services.controlplane.registry.revisions import Registry
from services.controlplane.registry.records import Phase
registry = Registry(sys.argv[1])
before = None
while True:
    document = {"use_cases": {"A": {"n": before[0] if before else 0}, "B": {"pad": "x" * 2000}}}
    revision, _ = registry.append(document, author="writer", comment="", replaces=before)
    before = (revision, document)
    registry.record(revision, Phase.CONVERGED)
    print(revision, flush=True)
"""


def test_kill_9_at_any_moment_loses_no_acknowledged_revision(where: str) -> None:
    acknowledged = 0
    for kill_after in range(1, 9):
        with subprocess.Popen([sys.executable, "-c", _WRITER, where], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(kill_after):
                acknowledged = int(writer.stdout.readline())
            os.kill(writer.pid, signal.SIGKILL)
            # What it said before it died counts as well.
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split())])
        with closing(Registry(where)) as registry:
            numbers = [each.revision for each in registry.all()]
            assert registry.in_force() >= acknowledged
            assert all(registry.document(each)["use_cases"]["B"] == {"pad": "x" * 2000} for each in numbers)
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) - acknowledged in (0, 1)


@pytest.mark.parametrize("first", [True, False])
def test_what_fails_half_way_is_not_stored(where: str, monkeypatch: pytest.MonkeyPatch, *, first: bool) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("half-way")

    def attempt(store: Registry) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(store, "_insert_event", fail)
            with pytest.raises(RuntimeError):
                store.append(DOCUMENT, author="ada", comment="why")

    with closing(Registry(where)) as store:
        if first:
            store.append(DOCUMENT, author="ada", comment="why")
        attempt(store)
        assert store.latest() == int(first)
        assert store.append(DOCUMENT, author="ada", comment="why")[0] == 1 + first
