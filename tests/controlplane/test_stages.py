"""A revision that is staged for some callers: who decides by it, how it ends, and what cannot be staged."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.client.admin import AdminClient
from lab.errors import InputError, LabError, NotOwnedError, PublishError, StaleRevisionError
from lab.routing.compiled import Choice
from lab.routing.document import RouteTable
from lab.routing.edits import sharing
from lab.routing.owners import require_owned
from models.proto.control.v1 import admin_pb2
from services.controlplane.api.audit import described
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.records import Phase
from services.controlplane.registry.revisions import Registry
from services.rules import RuleSet, Subscriber, decisions_of
from tests.controlplane.nodes import ControlPlane, running
from tests.controlplane.test_peers import up
from tests.waiting import eventually

CALLERS = ("homepage", "playback", "search")
CLUSTER, OTHER_CLUSTER = "ml-cluster-1", "ml-cluster-2"


def table(default: str = "v1", *, cluster: str = CLUSTER, owner: str = "", **sections: Any) -> RouteTable:
    """One use case of all callers; sections replace or extend."""
    case = {"callers": list(CALLERS), "api": "ranking.v1", "timeout": "50ms", "default": f"cw-ranker@{default}"}
    document = {
        "use_cases": {"Rank": case | ({"owner": owner} if owner else {})},
        "models": {"cw-ranker": {"versions": {version: {"cluster": cluster} for version in ("v1", default)}}},
        "clusters": {CLUSTER: {"replicas": 1}, OTHER_CLUSTER: {"replicas": 1}},
    }
    return RouteTable.from_document(document | sections)


def with_use_case(default: str = "v2", **fields: Any) -> RouteTable:
    document = table(default).document
    return RouteTable.from_document({**document, "use_cases": {"Rank": {**document["use_cases"]["Rank"], **fields}}})


def version_and_revision(choice: Choice) -> tuple[str, int]:
    return choice.version, choice.revision


class Node:
    """The lab's own subscriber, as a resolver of one caller or as a gateway, and what it decides."""

    def __init__(self, control_plane: ControlPlane, name: str) -> None:
        self.rules, self.applied, self.refuses = RuleSet(), 0, False
        role = name.rpartition("-")[2] if name.endswith("resolver") else "gateway"
        subscriber = Subscriber(
            node=name,
            role=role,
            control_plane=control_plane.address,
            apply=self._apply,
            with_endpoints=role == "gateway",
        )
        self._task = asyncio.create_task(subscriber.run())

    async def _apply(self, rules: RuleSet) -> None:
        if self.refuses and rules.router.use_cases:
            raise ValueError("not now")
        self.rules, self.applied = rules, self.applied + 1

    def decides(self, caller: str) -> tuple[str, int]:
        """The version and the revision for a caller."""
        return decisions_of(self.rules, version_and_revision).look_up("Rank", {"caller": caller})

    async def stop(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@dataclass
class Staged:
    """A control plane with a replica in each cluster, a resolver of each caller, and a gateway."""

    control_plane: ControlPlane
    nodes: Mapping[str, Node] = field(default_factory=dict)

    @classmethod
    @asynccontextmanager
    async def over(cls, control_plane: ControlPlane) -> AsyncIterator[Staged]:
        for cluster, replica in ((CLUSTER, "a"), (OTHER_CLUSTER, "bb")):
            await control_plane.replica(cluster, replica)
        names = ("gateway-1", *(f"{caller}-resolver" for caller in CALLERS))
        nodes = {name: Node(control_plane, name) for name in names}
        connected = control_plane.publisher.fleet.feed.subscribers
        await eventually("all are connected", lambda: nodes.keys() <= {each.node for each in connected})
        await eventually("all have their first state", lambda: all(each.applied for each in nodes.values()))
        try:
            yield cls(control_plane, nodes)
        finally:
            for each in nodes.values():
                await each.stop()

    async def publish(self, new: RouteTable, *callers: str, **options: Any) -> int:
        await self.control_plane.publish(new, callers=callers, **options)
        return self.control_plane.publisher.in_force.latest

    async def roll_back(self) -> int:
        return await self.control_plane.admin(lambda admin: admin.rollback(0, author="ada"))

    def versions(self) -> dict[str, str]:
        """Caller → version by which its resolver and the gateway decide, which must be the same."""
        found = {caller: self.nodes[f"{caller}-resolver"].decides(caller)[0] for caller in CALLERS}
        assert {caller: self.nodes["gateway-1"].decides(caller)[0] for caller in CALLERS} == found
        return found


@pytest.fixture
async def staged(control_plane: ControlPlane) -> AsyncIterator[Staged]:
    async with Staged.over(control_plane) as found:
        await found.publish(table())
        yield found


def by(homepage: str, playback: str, search: str) -> dict[str, str]:
    return dict(zip(CALLERS, (homepage, playback, search), strict=True))


async def test_only_the_callers_of_a_stage_get_it_until_it_is_published_to_all(staged: Staged) -> None:
    others = {caller: staged.nodes[f"{caller}-resolver"].applied for caller in ("playback", "search")}

    assert await staged.publish(table("v2"), "homepage") == 2
    assert staged.versions() == by("v2", "v1", "v1")
    assert {caller: staged.nodes[f"{caller}-resolver"].applied for caller in others} == others, "they hear of nothing"
    assert staged.control_plane.stored(2).callers == ("homepage",)
    assert {each.node for each in staged.control_plane.stored(2).acknowledgements} == {"gateway-1", "homepage-resolver"}

    assert await staged.publish(table("v2"), "search") == 3
    assert staged.versions() == by("v2", "v1", "v2")
    assert staged.control_plane.stored(3).callers == ("homepage", "search")

    own = staged.nodes["homepage-resolver"].applied
    assert await staged.publish(table("v2")) == 4
    assert staged.versions() == by("v2", "v2", "v2")
    assert staged.nodes["gateway-1"].rules.staged is None
    assert staged.nodes["homepage-resolver"].applied == own, "it has these rules already"


async def test_a_rollback_takes_a_stage_back_from_its_callers(staged: Staged) -> None:
    await staged.publish(table("v2"), "homepage", "search")
    playback = staged.nodes["playback-resolver"].applied

    assert await staged.roll_back() == 3

    assert staged.versions() == by("v1", "v1", "v1")
    assert staged.nodes["playback-resolver"].applied == playback
    assert staged.control_plane.stored(3).comment == "rollback of revision 2, staged for homepage, search"
    members = staged.control_plane.publisher.fleet.membership
    await eventually("it is unloaded", lambda: all("cw-ranker.v2" not in each.loaded for each in members.members))
    with pytest.raises(InputError, match="no revision is staged"):
        await staged.roll_back()


async def test_history_status_and_revisions_tell_of_a_stage(staged: Staged) -> None:
    await staged.publish(table("v2"), "homepage")
    admin = staged.control_plane.admin

    status = await admin(lambda it: it.status())
    assert (status.revision, status.staged, status.staged_for) == (1, 2, ("homepage",))
    acked = {each.node: each.acked_revision for each in status.nodes}
    assert acked == {"gateway-1": 2, "homepage-resolver": 2, "playback-resolver": 1, "search-resolver": 1}
    listed = await admin(lambda it: it.revisions())
    assert [(each.revision, each.fate, each.callers) for each in listed] == [
        (1, "in force", ()),
        (2, "staged", ("homepage",)),
    ]
    for caller, revision in (("", 1), ("homepage", 2), ("search", 1)):
        assert (await admin(partial(AdminClient.revision, caller=caller))).revision == revision
    since_ns = listed[1].steps[-1].at_ns + 1
    assert [each.revision for each in await admin(lambda it: it.revisions(since_ns=since_ns))] == [1, 2]


async def test_a_node_that_connects_during_a_stage_begins_with_what_is_for_its_caller(staged: Staged) -> None:
    await staged.publish(table("v2"), "homepage")
    new = [Node(staged.control_plane, name) for name in ("homepage-resolver", "search-resolver", "gateway-2")]
    await eventually("all have their first state", lambda: all(each.applied for each in new))
    assert [each.decides("homepage") for each in (new[0], new[2])] == [("v2", 2)] * 2
    assert [each.decides("search") for each in new[1:]] == [("v1", 1)] * 2
    for each in new:
        await each.stop()


async def test_a_stage_that_removes_a_use_case_and_a_version_keeps_them_for_others(staged: Staged) -> None:
    full = table("v2").document
    await staged.publish(
        RouteTable.from_document(full | {"use_cases": {**full["use_cases"], "Old": full["use_cases"]["Rank"]}})
    )
    await staged.publish(table("v3"), "homepage")
    new = [Node(staged.control_plane, name) for name in ("homepage-resolver", "search-resolver")]
    await eventually("both have their first state", lambda: all(each.applied for each in new))
    for own, others in ((staged.nodes["homepage-resolver"], staged.nodes["search-resolver"]), (new[0], new[1])):
        assert own.rules.router.use_cases.keys() == {"Rank"}
        assert others.rules.router.use_cases.keys() == {"Rank", "Old"}
        assert own.rules.router.versions.keys() == {"cw-ranker.v1", "cw-ranker.v3"}
        assert others.rules.router.versions.keys() == {"cw-ranker.v1", "cw-ranker.v2"}
    gateway = staged.nodes["gateway-1"].rules
    assert {"cw-ranker.v2", "cw-ranker.v3"} < gateway.endpoints.keys() & gateway.clusters.keys()
    for each in new:
        await each.stop()


async def test_a_stage_that_fails_leaves_its_callers_what_they_had(staged: Staged) -> None:
    own = [staged.nodes[each] for each in ("homepage-resolver", "gateway-1")]
    for node in own:
        node.refuses = True
    with pytest.raises(PublishError, match="not now"):
        await staged.publish(table("v2"), "homepage")
    for node in own:
        node.refuses = False
    await eventually("all have rules again", lambda: all(node.rules.router.revision for node in own))
    assert staged.versions() == by("v1", "v1", "v1")
    assert staged.control_plane.publisher.in_force.stage is None


async def test_a_publish_to_all_that_fails_leaves_the_stage(staged: Staged) -> None:
    await staged.publish(table("v2"), "homepage")
    for node in staged.nodes.values():
        node.refuses = True
    with pytest.raises(PublishError, match="not now"):
        await staged.publish(table("v3"))
    for node in staged.nodes.values():
        node.refuses = False
    await eventually("all have rules again", lambda: all(node.rules.router.revision for node in staged.nodes.values()))
    assert staged.versions() == by("v2", "v1", "v1")


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (table("v2", cluster=OTHER_CLUSTER), "the cluster of cw-ranker@v1 is the same for all callers"),
        (table("v2", tenants={"ads": {"rate": 5}}), "the section tenants is the same for all callers"),
        (with_use_case("v1", retries={"attempts": 2}), r"the resilience policy of cw-ranker\.v1 is the same"),
        (with_use_case("v2", api="fraud.v1"), "the api of Rank is the same for all callers"),
    ],
    ids=["cluster", "tenants", "policy", "api"],
)
async def test_what_all_callers_share_cannot_be_staged(staged: Staged, new: RouteTable, reason: str) -> None:
    with pytest.raises(PublishError, match=reason):
        await staged.publish(new, "homepage")
    assert staged.control_plane.publisher.registry.latest() == 1


async def test_only_one_table_is_staged_and_it_ends_knowingly(staged: Staged) -> None:
    await staged.publish(table("v2"), "homepage")
    for refused, reason in (
        (staged.publish(table("v3"), "search"), "revision 2, staged for homepage, is another table"),
        (staged.publish(table("v2"), ""), "no use case allows caller ''"),
        (staged.publish(table("v2"), "nobody"), "no use case allows caller 'nobody': write some of homepage"),
        (staged.publish(table("v3"), ends_stage=False), "publish it to all, or roll it back"),
    ):
        with pytest.raises(PublishError, match=reason):
            await refused
    with pytest.raises(StaleRevisionError, match="revision 2 is in force, not 1"):
        await staged.publish(table("v2"), expected_revision=1)
    await staged.publish(table("v3"))
    assert staged.versions() == by("v3", "v3", "v3")


async def test_a_policy_of_a_new_version_is_staged(staged: Staged) -> None:
    await staged.publish(with_use_case("v2", retries={"attempts": 2}), "homepage")
    assert staged.nodes["gateway-1"].rules.policies.keys() == {"cw-ranker.v2"}
    await staged.roll_back()
    assert not staged.nodes["gateway-1"].rules.policies


async def test_a_resolver_of_several_callers_holds_no_stage(staged: Staged) -> None:
    shared = Node(staged.control_plane, "shared-resolver")
    await eventually("it is connected", lambda: bool(shared.applied))
    with pytest.raises(PublishError, match="resolver shared-resolver decides for all callers by one set of rules"):
        await staged.publish(table("v2"), "homepage")
    await shared.stop()


async def test_an_owner_ends_no_stage_of_another(staged: Staged) -> None:
    await staged.publish(table(owner="ads"))
    await staged.publish(table("v2", owner="ads"), "homepage")

    def owned(before: RouteTable) -> RouteTable:
        after = sharing(table(owner="ads"), before)
        require_owned("kids", before, after)
        return after

    with pytest.raises(NotOwnedError, match="owned by ads"):
        await staged.control_plane.publisher.publish(
            owned, author="kids", comment="", expected_revision=0, progress=lambda *_: None
        )
    assert staged.versions() == by("v2", "v1", "v1")


async def test_no_phase_of_a_stage_is_skipped_and_the_audit_log_names_its_callers(staged: Staged) -> None:
    source = [("routes.yaml", "use_cases: {}\nmodels: {}\nclusters: {}\n")]
    with pytest.raises(LabError, match="a publish without phases goes to all"):
        await staged.control_plane.admin(
            lambda admin: admin.publish(source, author="ada", unsafe_skip_phases=True, callers=["homepage"])
        )
    request = admin_pb2.PublishRequest(sources=[admin_pb2.SourceFile(name="r.yaml")], callers=["homepage", "search"])
    assert described(request).startswith("r.yaml for homepage, search;")
    assert described(admin_pb2.RollbackRequest()).startswith("of the staged revision;")


def phases(registry: Registry, revision: int) -> list[Phase]:
    stored = registry.get(revision)
    return [event.phase for event in stored.events] if stored else []


async def test_a_control_plane_that_restarts_comes_back_with_the_stage(where: str, timeouts: Timeouts) -> None:
    for steps in range(3):
        with closing(Registry(where)) as registry:
            async with running(registry, timeouts) as control_plane, Staged.over(control_plane) as staged:
                if not steps:
                    await staged.publish(table())
                    await staged.publish(table("v2"), "homepage")
                assert staged.versions() == (by("v2", "v1", "v1") if steps < 2 else by("v1", "v1", "v1"))
                assert staged.control_plane.publisher.fleet.live.keys_for("search") == (
                    {"cw-ranker.v1", "cw-ranker.v2"} if steps < 2 else {"cw-ranker.v1"}
                )
                if steps == 1:
                    await staged.roll_back()
                    await eventually("it is retired", lambda: Phase.RETIRED in phases(registry, 3))


async def test_a_restart_finishes_the_retirement_of_a_stage(where: str) -> None:
    slow = Timeouts(load=1.0, acknowledge=1.0, retire=60.0)
    with closing(Registry(where)) as registry:
        async with running(registry, slow) as control_plane, Staged.over(control_plane) as staged:
            await staged.publish(table())
            await staged.publish(table("v2"), "homepage")
            await staged.publish(table("v3"))
    with closing(Registry(where)) as registry:
        async with running(registry, slow) as control_plane:
            live = control_plane.publisher.fleet.live
            assert len(live) == 3, "requests by either of the two may be on their way"
            assert live.keys_for("homepage") == {"cw-ranker.v1", "cw-ranker.v2", "cw-ranker.v3"}


async def test_two_control_planes_agree_on_a_stage(where: str, timeouts: Timeouts) -> None:
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(up(where, timeouts, name)) for name in ("control-plane", "control-plane-2")
        ]
        nodes = [Node(one, "homepage-resolver"), Node(other, "gateway-1"), Node(other, "search-resolver")]
        await one.publish(table())
        for publisher, action, wanted in (
            (one, ("v2", ("homepage",)), ("v2", "v1")),
            (other, ("v2", ("search",)), ("v2", "v2")),
            (one, ("v1", ()), ("v1", "v1")),
        ):
            default, callers = action
            await eventually(
                "both have the same", lambda: one.publisher.in_force.latest == other.publisher.in_force.latest
            )
            await publisher.publish(table(default), callers=callers)
            assert (nodes[0].decides("homepage")[0], nodes[1].decides("homepage")[0]) == (wanted[0],) * 2
            assert (nodes[2].decides("search")[0], nodes[1].decides("search")[0]) == (wanted[1],) * 2
        for node in nodes:
            await node.stop()


STEPS = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["v1", "v2", "v3"])),
    st.tuples(
        st.just("stage"), st.sampled_from(["v2", "v3"]), st.sets(st.sampled_from(CALLERS), min_size=1).map(sorted)
    ),
    st.just(("promote",)),
    st.just(("roll back",)),
    st.just(("restart",)),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, min_size=3, max_size=8))
def test_after_any_steps_each_caller_follows_the_model_of_stages(steps: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(steps, Path(folder) / "registry.sqlite"))


async def _play(steps: list[tuple[Any, ...]], store: Path) -> None:
    """Plays steps against a model: a version for all, and perhaps one for a set of callers."""
    timeouts = Timeouts(load=5.0, acknowledge=5.0, settle=0.0, retire=0.02)
    for_all, stage, callers = "v1", "", set[str]()
    todo: list[tuple[Any, ...]] = [("publish", "v1"), *steps]
    while todo:
        with closing(Registry(store)) as registry:
            async with running(registry, timeouts) as control_plane, AsyncExitStack() as stack:
                staged = await stack.enter_async_context(_nodes(control_plane, first=not registry.latest()))
                while todo and (step := todo.pop(0)) != ("restart",):
                    match step:
                        case ("publish", version):
                            await staged.publish(table(version))
                            for_all, stage = version, ""
                        case ("stage", version, names) if stage in ("", version):
                            await staged.publish(table(version), *names)
                            callers, stage = (callers if stage else set()).union(names), version
                        case ("stage", version, names):
                            with pytest.raises(PublishError, match="another table"):
                                await staged.publish(table(version), *names)
                        case ("promote",) if stage:
                            await staged.publish(table(stage))
                            for_all, stage = stage, ""
                        case ("roll back",) if stage:
                            await staged.roll_back()
                            stage = ""
                    wanted = {each: stage if stage and each in callers else for_all for each in CALLERS}
                    assert staged.versions() == wanted, (steps, step)


@asynccontextmanager
async def _nodes(control_plane: ControlPlane, *, first: bool) -> AsyncIterator[Staged]:
    if first:
        await control_plane.replica(CLUSTER, "a")
        await control_plane.publish(table())
    async with Staged.over(control_plane) as staged:
        yield staged
