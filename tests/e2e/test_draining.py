"""A model cluster that gets smaller under long streams, in every topology."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path

from lab.client import Client
from lab.lab import Lab
from lab.topologies import TOPOLOGIES, open_client
from models.proto.control.v1 import stub_pb2
from models.proto.ranking.v1 import ranking_pb2
from scenarios.framework.steps import set_behaviour
from tests.labs import TWO_REPLICAS, with_timeout, write_spec
from tests.proxies import that_run_here
from tests.waiting import eventually

SPEC = """
topologies = {topologies}
routes = "routes.yaml"
[callers.homepage]
[gateway]
replicas = 1
[stub]
drain_s = {drain_s}
"""
CLUSTER = "ml-cluster-1"
STREAM_MS = 8_000
TITLES = 20
STREAMS = 6
BEGUN_WITHIN = timedelta(seconds=30)


def bring_up(lab: Lab, folder: Path, topologies: list[str], drain_s: float) -> None:
    """Brings up two replicas, whose streams take eight seconds, and which drain for so long."""
    spec = SPEC.format(topologies=json.dumps(topologies), drain_s=drain_s)
    lab.up(spec=write_spec(folder, spec, with_timeout(TWO_REPLICAS, "60s")))
    set_behaviour(lab, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=STREAM_MS)), CLUSTER)


def request(titles: int = TITLES) -> ranking_pb2.RankRequest:
    return ranking_pb2.RankRequest(titles=[ranking_pb2.Title(id=f"t{number:02}") for number in range(titles)])


async def rows(client: Client, titles: int, begun: Counter[str]) -> int:
    """Items of one stream; counts whom it was begun by."""
    items = 0
    async for answer in client.stream("ContinueWatchingRanking", request(titles), {"user_id": "u1"}):
        if not items:
            begun[answer.response.answered_by.replica] += 1
        items += 1
    return items


async def shrink(lab: Lab, topologies: list[str]) -> tuple[list[int | BaseException], Counter[str]]:
    """Items of each stream that was under way when a replica went, and who began those that came after."""
    clients = [open_client(each, "homepage", lab.endpoints().clients["homepage"]) for each in topologies]
    try:
        await asyncio.gather(*(each.ready() for each in clients))
        begun: Counter[str] = Counter()
        streams = [asyncio.create_task(rows(each, TITLES, begun)) for each in clients for _ in range(STREAMS)]
        await eventually("all streams have begun", begun.total, within=BEGUN_WITHIN, until=len(streams).__eq__)
        assert len(begun) == 2
        [kept] = await asyncio.to_thread(lab.units.scale, CLUSTER, 1)
        found = await asyncio.gather(*streams, return_exceptions=True)
        set_behaviour(lab, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=0)), CLUSTER)
        after: Counter[str] = Counter()
        await asyncio.gather(*(rows(each, 1, after) for each in clients for _ in range(2)))
        assert set(after) == {kept}
        return found, begun
    finally:
        await asyncio.gather(*(each.close() for each in clients))


def test_long_streams_finish_when_their_replica_goes(own_lab: Lab, tmp_path: Path) -> None:
    topologies = sorted(set(that_run_here(TOPOLOGIES)) - {"direct"})
    bring_up(own_lab, tmp_path, topologies, drain_s=30)
    found, _ = asyncio.run(shrink(own_lab, topologies))
    assert [TITLES] * len(topologies) * STREAMS == found


def test_what_has_not_finished_by_the_drain_deadline_is_cut_off(own_lab: Lab, tmp_path: Path) -> None:
    bring_up(own_lab, tmp_path, ["gateway"], drain_s=1)
    found, begun = asyncio.run(shrink(own_lab, ["gateway"]))
    cut_off = [each for each in found if each != TITLES]
    assert 0 < len(cut_off) < STREAMS
    assert len(cut_off) in begun.values()
