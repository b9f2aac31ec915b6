"""What notebook 6 shows: sidecars that know what was asked for, costs, fleets and queues."""

from dataclasses import replace

import pytest

from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.costs import Costs
from lab.plugins.capacity.fleet import Demand
from lab.plugins.capacity.services import mean_s
from lab.plugins.capacity.tables import fleets_table
from lab.plugins.workshop.fleets import as_figure, cores_picture, costs_picture, fleets, money_picture
from lab.plugins.workshop.queueing import MANY, losses, losses_picture, losses_rows, p99s_ms, tails_picture
from lab.plugins.workshop.simulated_hosts import HostedLab, sidecars_picture
from models.stub.behaviour import parse_latency

LATENCY = parse_latency("lognormal:20,0.4")
DEMAND = Demand(rps=1e6, payload_bytes=30_000, callers=30, clusters=2_000, slots=4, service_s=mean_s(LATENCY))
PARTS = [("gateway", "caller"), ("gateway", "gateway"), ("mesh", "caller"), ("mesh", "resolver"), ("mesh", "sidecar")]
COSTS = Costs({(*part, 30_000): 0.0005 for part in PARTS}, "a test")


async def test_a_sidecar_knows_what_its_caller_has_asked_for_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    hosted = HostedLab(tmp_path_factory.mktemp("h"))  # sockets must not have long paths
    try:
        hosted.up(clusters=12, callers=2, use_cases=6, idle_after_s=6)  # longer than what is asked until then takes
        before = hosted.known_to("search")
        first, *others = hosted.use_cases("search")
        [asked, again] = await hosted.ask("search", [first, first])
        after = hosted.known_to("search")
        await hosted.ask("search", others)

        assert before.clusters == []
        assert asked.routing_key == again.routing_key
        assert after.clusters == [asked.routing_key]
        assert after.received_kb > before.received_kb > 0
        assert 1 < len(hosted.known_to("search").clusters) < hosted.clusters == 12
        assert hosted.known_to("homepage").clusters == []
        await hosted.idle("search")
        await hosted.ask("search", [first])
        assert hosted.known_to("search").clusters == [f"{asked.routing_key}~1"]
    finally:
        hosted.down()
        hosted.down()


def test_sidecars_stand_beside_each_other_by_number_of_clusters() -> None:
    seen = {("on demand", 10): {"rss_mb": 70.0}, ("eager", 10): {"rss_mb": 1_070.0}}

    figure = sidecars_picture(seen, "rss_mb", "memory, MB")

    assert "10 clusters" in str(figure.body)
    assert "1,070.0" in str(figure.body)


def test_every_number_of_a_fleet_says_where_it_is_from() -> None:
    found = fleets(DEMAND, COSTS, Assumptions())

    assert [each.topology for each in found] == ["gateway", "mesh"]
    assert "(measured)" in costs_picture(COSTS, DEMAND, Assumptions()).title
    assert "(computed)" in cores_picture(found, DEMAND.rps).title
    assert "assumed prices" in money_picture(found).title
    assert "(computed)" in as_figure(fleets_table(found)).title
    assert ">833<" in str(cores_picture(found, DEMAND.rps).body)


def test_the_tail_grows_with_load_and_who_sees_all_keeps_it_shortest() -> None:
    few, many, chance = (
        p99s_ms(LATENCY, (0.3, 0.8), 1, policy) for policy in ("least request", f"least request × {MANY}", "at random")
    )

    assert all(calm < busy for calm, busy in (few, many, chance))
    assert few[1] < many[1] < chance[1]
    assert "22 ms in the mean" in tails_picture(LATENCY, 1).caption


def test_retries_save_requests_until_the_dead_are_noticed() -> None:
    seen = losses(replace(DEMAND, rps=DEMAND.rps / 20, clusters=100), LATENCY, Assumptions())

    assert seen[0].failed == pytest.approx(1 / 3, abs=0.03)
    assert "33." in str(losses_picture(seen).body)
    assert "budget 20" in str(losses_rows(seen).body)
