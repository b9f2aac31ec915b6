"""What notebooks do to a lab that is up: watching, killing for an exercise, and driving by a caller with a bug."""

from collections.abc import Iterator

import pytest

from lab.plugins.workshop import WorkshopLab, cut_off, topology_picture, watch
from lab.plugins.workshop.buggy_caller import load_with
from lab.plugins.workshop.checks import check_bug, check_victims
from lab.plugins.workshop.measuring import latency_picture, middle, p50s, parts_picture
from lab.plugins.workshop.protocols import (
    GRPC,
    REST,
    arrivals,
    arrivals_picture,
    bytes_of,
    costs,
    costs_picture,
    grow,
    newcomer_picture,
    spread_picture,
)
from lab.plugins.workshop.watch import back
from lab.runs import LoadOptions

TOPOLOGIES = ["gateway", "mesh"]
USE_CASE = "ContinueWatchingRanking"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkshopLab]:
    lab = WorkshopLab(
        f"lessons-{tmp_path_factory.getbasetemp().name[-12:].replace('_', '-')}", tmp_path_factory.mktemp("lessons")
    )
    lab.up(topologies=TOPOLOGIES, security="plaintext")  # as the notebooks do
    yield lab
    lab.down()


def test_every_caller_is_answered_through_both_topologies(lab: WorkshopLab) -> None:
    asked = watch(lab, TOPOLOGIES, seconds=0.3)

    assert cut_off(asked) == {"gateway": [], "mesh": []}
    assert {each.status for each in asked} == {"OK"}
    figure = topology_picture(lab, asked, "mesh", last_s=1)
    assert "of the last 1 s" in figure.caption
    assert "recommendations-sidecar" in str(figure.body)


def test_search_is_cut_off_when_the_shared_replicas_are_dead(lab: WorkshopLab) -> None:
    replicas = [unit.name for unit in lab.status().units if unit.name.startswith("ml-cluster-4-")]

    assert check_victims(lab, replicas).right
    assert "mesh: search" in check_victims(lab, ["search-sidecar"]).words
    assert "not a unit" in check_victims(lab, ["nobody"]).words
    assert not check_victims(lab, []).right
    assert cut_off(watch(lab, TOPOLOGIES, seconds=0)) == {"gateway": [], "mesh": []}


def test_dead_units_are_shown_while_the_control_plane_is_dead(lab: WorkshopLab) -> None:
    before = lab.route_table()
    lab.units.kill("control-plane")
    try:
        assert lab.route_table() == before
        assert "topology gateway" in topology_picture(lab, watch(lab, TOPOLOGIES, seconds=0), "gateway").title.lower()
    finally:
        lab.units.start("control-plane")
        back(lab, TOPOLOGIES)


def test_a_careless_caller_is_found_by_the_checkers(lab: WorkshopLab) -> None:
    options = LoadOptions(topology="mesh", caller="homepage", use_cases=(USE_CASE,), rate=100, duration_s=2)
    careful = load_with(lab, options, lambda context: context)
    careless = load_with(
        lab, options, lambda context: {**context, "device": "web"} if context["country"] == "CA" else context
    )

    assert "Every answer was right" in check_bug(careful).words
    assert careless.misrouted > 0
    assert careless.summary.failed == 0
    assert check_bug(careless, at_most=0.2).right


def test_several_loads_flow_while_something_is_done(lab: WorkshopLab) -> None:
    done = []
    runs = lab.loads(
        *(LoadOptions(topology=topology, caller="playback", rate=50, duration_s=2) for topology in TOPOLOGIES),
        during=lambda: done.append(lab.publish_document(lab.route_table(), comment="the same again")),
    )

    assert len(runs) == len(TOPOLOGIES)
    assert [run.summary.failed for run in runs] == [0, 0]
    assert done == [lab.routes.show().revision]


async def test_protocols_are_compared_on_one_model(lab: WorkshopLab) -> None:
    measured = await costs(lab, 27_000)

    assert set(measured) == {GRPC, REST}
    assert all(cost.p50 > 0 for cost in measured.values())
    assert "27 KB" in costs_picture(measured, 27_000).title
    assert bytes_of(27_000)[REST] > 2 * bytes_of(27_000)[GRPC]


async def test_a_stream_brings_the_first_title_before_the_whole_answer_comes(lab: WorkshopLab) -> None:
    whole, items = await arrivals(lab, "mesh")

    assert sorted(items) == items
    assert items[0] < whole
    assert "stream" in str(arrivals_picture("mesh", (whole, items)).body)


async def test_behind_l4_a_new_replica_gets_nothing_and_behind_l7_its_share(lab: WorkshopLab) -> None:
    before = lab.status().units
    seen = await grow(lab)

    assert sorted(seen) == ["L4", "L7", "mesh"]
    assert seen["L4"][0].share == 0
    assert seen["L7"][0].share > 0.5
    assert "L4" in str(spread_picture(seen).body)
    assert "even share" in str(newcomer_picture(seen).body)
    assert {unit.name for unit in before} == {unit.name for unit in lab.status().units}


def test_latencies_are_measured_in_turns(lab: WorkshopLab) -> None:
    measured = p50s(lab, TOPOLOGIES, 400, rounds=2)

    assert [len(values) for values in measured.values()] == [2, 2]
    assert "400 B" in latency_picture(measured, 400).title
    assert middle(measured["mesh"]) > 0


def test_parts_are_those_whose_pair_was_measured() -> None:
    measured = {"gateway": [3.0, 3.1], "gateway-passthrough": [2.0, 2.1], "mesh": [1.0, 1.1]}

    text = str(parts_picture(measured, 400).body)

    assert "parse, re-serialise" in text
    assert "resolve" not in text
