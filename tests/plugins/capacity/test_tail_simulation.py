from typing import Any

import pytest

from lab.plugins.capacity import tail_simulation
from lab.plugins.capacity.assumptions import Assumptions
from lab.plugins.capacity.fleet import Demand
from lab.plugins.capacity.services import mean_s
from lab.plugins.capacity.tail_simulation import Outlook
from models.stub.behaviour import parse_latency

LATENCY = parse_latency("lognormal:20,0.4")


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_simulation, "_REQUESTS", 100_000)


def an_outlook(*, seed: int = 0, **changes: Any) -> Outlook:
    fields = {"rps": 50_000, "payload_bytes": 0, "callers": 1, "clusters": 100, "slots": 4} | changes
    return Outlook(Demand(service_s=mean_s(LATENCY), **fields), LATENCY, Assumptions({"noticed-s": 0.5}), seed)


def test_many_balancers_are_as_good_as_chance() -> None:
    tails = {(str(each.balancing), each.balancers): each for each in an_outlook().tails({"sidecars": 500})}
    alone = tails["least-request", "one for all"].p99_ms
    many = tails["least-request", "sidecars: 500"].p99_ms
    chance = tails["random", "one for all"].p99_ms

    assert len(tails) == 8
    assert alone < many
    assert pytest.approx(chance, rel=0.05) == many


def test_a_zone_that_dies_costs_a_third_until_it_is_noticed_and_a_tail_after() -> None:
    losses = {(each.busy, each.retries): each for each in an_outlook().losses()}
    none, budget, free = (losses[0.6, words] for words in ("none", "2 attempts, budget 20", "2 attempts, no budget"))

    assert len(losses) == 6
    assert none.failed == pytest.approx(1 / 3, abs=0.02)
    assert free.failed < budget.failed < none.failed
    assert all(each.p99_after_ms > each.p99_before_ms for each in losses.values())
    assert none.p99_after_ms > losses[0.5, "none"].p99_after_ms


def test_a_seed_makes_the_same_outlook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail_simulation, "_LEAST_EACH", 100)
    monkeypatch.setattr(tail_simulation, "_REQUESTS", 10_000)
    first, again, other = (list(an_outlook(seed=seed).tails({})) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_clusters_with_many_replicas_get_fewer_requests_and_no_cluster_too_few() -> None:
    assert 100 * an_outlook().requests == 100_000
    assert (an_outlook(clusters=2).cluster.replicas, an_outlook(clusters=2).replicas) == (48, 226)
    assert 2 * an_outlook(clusters=2).requests < 100_000
    assert an_outlook(clusters=50_000).requests == 400
    assert an_outlook(clusters=50_000).lanes == 2_000
