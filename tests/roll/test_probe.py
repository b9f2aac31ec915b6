"""The probe's users: old and new version get equally many requests at every step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lab.client import Endpoints
from lab.load.arrivals import Poisson
from lab.load.mix import Mix
from lab.load.plan import LoadPlan, UseCase
from lab.ops.roll.probe import _is_new, balanced
from lab.runs import LoadOptions
from tests.roll.test_figures import at

REQUESTS = 2_000


def shares(percent: int, tmp_path: Path) -> tuple[int, int]:
    """How many of a probe's requests are for the new version, and for the old one."""
    router, plan = at(percent)
    probe = balanced(LoadOptions(topology="mesh", caller="homepage", use_cases=("Rows",), users=10_000), router, plan)
    load = LoadPlan(
        topology=probe.topology,
        caller=probe.caller,
        use_cases=(UseCase("Rows", "ranking.v1"),),
        arrivals=Poisson(1, 1, 0),
        endpoints=Endpoints(),
        spool=tmp_path,
        summary=tmp_path,
        users=probe.users,
        contexts=probe.contexts,
        edge_every=probe.edge_every,
        edge_cases=probe.edge_cases,
    )
    mix = Mix(load)
    requests = [mix.draw() for _ in range(REQUESTS)]
    found = [_is_new(each.use_case.name, each.context, router, plan) for each in requests]
    return found.count(True), found.count(False)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_the_new_and_the_old_version_get_equally_many_requests(percent: int, tmp_path: Path) -> None:
    new, old = shares(percent, tmp_path)

    assert min(new, old) > REQUESTS / 4
    assert abs(new - old) <= 5 * REQUESTS**0.5


@pytest.mark.parametrize(("percent", "side"), [(0, 0), (100, 1)])
def test_where_only_one_version_gets_traffic_it_gets_all(percent: int, side: int, tmp_path: Path) -> None:
    found = shares(percent, tmp_path)

    assert found[side] == 0
    assert found[1 - side] > REQUESTS / 2


def test_users_differ_from_probe_to_probe() -> None:
    router, plan = at(10)
    probe = LoadOptions(topology="mesh", caller="homepage", use_cases=("Rows",), users=10_000)

    first, second = (balanced(each, router, plan).edge_cases for each in (probe, replace(probe, seed=1)))

    assert first != second
