"""Debian's Prometheus scrapes a running lab: every unit, every recorded series, every query of every dashboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from lab.lab import Lab
from lab.plugins.render import DEFAULT_SLO, TARGETS, Source
from lab.plugins.render._dashboards import DASHBOARDS, LAB, Dashboard
from lab.plugins.render._queries import recorded
from lab.routing.document import RouteTable
from lab.runs.drive import LoadOptions
from lab.runtime.cancellation import CancelToken
from lab.spec import read_spec
from lab.waiting import eventually
from tests.e2e import public_dashboards
from tests.labs import ROUTES, SPEC, lab_up, write_spec
from tests.prometheus import Prometheus, running_prometheus

WITHIN = timedelta(seconds=90)
RATE = 20
TOPOLOGIES = ("gateway", "mesh")
EJECTING = ROUTES.replace("default: cw-ranker@v1", "default: cw-ranker@v1\n    outliers: {}")


@dataclass(frozen=True)
class Watched:
    """A lab under load, and the server that scrapes it."""

    lab: Lab
    prometheus: Prometheus


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    # For public dashboards: a central Envoy, whose listener has a certificate, and what lets Envoys count ejections.
    spec = write_spec(folder, SPEC.replace('"gateway", ', '"gateway", "gateway-header", '), EJECTING)
    files = TARGETS["prometheus"].render(Source(read_spec(spec), RouteTable.from_document({}))).files
    for name, text in files.items():
        (folder / name).write_text(text)
    with lab_up(folder, spec=spec, metrics=True) as lab:
        targets = [each.to_document() for each in lab.endpoints().metrics]
        (folder / "targets.json").write_text(json.dumps(targets))
        with loaded(lab), running_prometheus(folder / "prometheus.yml", folder / "data") as prometheus:
            yield Watched(lab, prometheus)


@contextmanager
def loaded(lab: Lab) -> Iterator[None]:
    """Requests by both topologies for the block."""
    stop = CancelToken()
    options = [LoadOptions(topology=topology, caller="homepage", rate=RATE, duration_s=300) for topology in TOPOLOGIES]
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lab.load_parallel, options, cancel_token=stop)
        try:
            yield
        finally:
            stop.cancel()


def test_every_target_is_up(watched: Watched) -> None:
    wanted = {each.labels["unit"]: "up" for each in watched.lab.endpoints().metrics}

    assert eventually("all are up", watched.prometheus.targets, within=WITHIN, until=wanted.__eq__) == wanted
    # A target is up as soon as it was read, and what was read can be queried a moment later.
    up = partial(watched.prometheus.query, "up == 1")
    eventually("all are recorded", lambda: len(up()), within=WITHIN, until=len(wanted).__eq__)


def test_rates_errors_and_durations_are_recorded_for_each_topology(watched: Watched) -> None:
    def topologies(series: str) -> set[str]:
        return {each["metric"]["topology"] for each in watched.prometheus.query(f"{series} >= 0")}

    for name in recorded(DEFAULT_SLO)["lab-topologies"]:
        eventually(f"{name} has both", partial(topologies, name), within=WITHIN, until=set(TOPOLOGIES).__eq__)
    rates = watched.prometheus.query("lab_topology:requests:rate")
    assert {each["metric"]["lab"] for each in rates} == {watched.lab.name}


@pytest.mark.parametrize("series", [name for rules in recorded(DEFAULT_SLO).values() for name in rules])
def test_every_recorded_series_has_numbers(watched: Watched, series: str) -> None:
    eventually(f"{series} has numbers", partial(watched.prometheus.has_numbers, series), within=WITHIN)


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.name)
def test_every_panel_of_every_dashboard_has_numbers(watched: Watched, page: Dashboard) -> None:
    for panel in page.panels:
        query = panel.query.replace(LAB, watched.lab.name)
        eventually(f"{panel.title}: {query}", partial(watched.prometheus.has_numbers, query), within=WITHIN)


def test_a_unit_that_is_killed_is_down(watched: Watched) -> None:
    watched.lab.units.kill("ml-cluster-1-a")
    try:
        eventually("it is down", lambda: watched.prometheus.targets()["ml-cluster-1-a"] == "down", within=WITHIN)
        failing = 'lab_topology:failures:ratio{topology="mesh"} > 0'
        eventually("requests fail", partial(watched.prometheus.has_numbers, failing), within=WITHIN)
    finally:
        watched.lab.units.start("ml-cluster-1-a")


ASKS = [(file, ask) for file, asks in public_dashboards.DASHBOARDS.items() for ask in asks]


def test_public_dashboards_get_numbers_for_all_but_what_says_why_not(watched: Watched) -> None:
    """By the data of :mod:`tests.e2e.public_dashboards`, of which each query that cannot be filled says why."""
    can = [(file, ask) for file, ask in ASKS if not ask.cannot]

    def silent() -> list[str]:
        return [
            f"{file}: {ask.panel}: {ask.query}" for file, ask in can if not watched.prometheus.has_numbers(ask.query)
        ]

    assert len(can) == len(ASKS) - 9
    eventually("all of these have numbers", silent, within=WITHIN, until=lambda seen: not seen)
    assert not [ask.panel for _, ask in ASKS if ask.cannot and watched.prometheus.has_numbers(ask.query)]
