"""Every unit of a lab with metrics can be scraped, and nothing of it listens without."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from datetime import timedelta

import pytest

from lab.lab import Lab
from lab.roles import LOAD
from lab.waiting import eventually
from tests.lab_command import json_of, run_lab
from tests.labs import ask, lab_up, write_spec


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("metered")
    with lab_up(folder, spec=write_spec(folder), metrics=True) as lab:
        yield lab


def scraped(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 (an address of the lab)
        return str(answer.read(), "utf-8")


def page_of(url: str) -> str:
    try:
        return scraped(url)
    except OSError:
        return ""


def test_every_unit_and_load_are_targets_with_name_and_role(metered: Lab) -> None:
    targets = json_of(run_lab(metered, "endpoints", "--targets"))

    units = {unit.name: unit.role for unit in metered.status().units}
    assert {each["labels"]["unit"]: each["labels"]["role"] for each in targets} == units | {LOAD: LOAD}
    assert {each["labels"]["lab"] for each in targets} == {metered.name}
    assert [each["labels"]["unit"] for each in targets if "caller" in each["labels"]] == [
        name for name in units if name.startswith("homepage")
    ]
    assert all(each["targets"][0].startswith("127.0.0.1:") for each in targets)


def test_every_unit_counts_what_it_serves(metered: Lab) -> None:
    for topology in ("gateway", "mesh"):
        ask(metered, topology)

    targets = {each.labels["unit"]: each.url for each in metered.endpoints().metrics}
    pages = {unit: scraped(url) for unit, url in targets.items() if unit != LOAD}  # no load runs
    counts = {
        "control-plane": 'lab_publish_phases_total{phase="converged"} 1.0',
        "ml-cluster-1-a": 'lab_model_requests_total{kind="request",model="cw-ranker",version="v1"} ',
        "gateway-1": "lab_revision 1.0",
        "homepage": 'lab_caller_calls_total{code="OK",topology="mesh"} ',
        "homepage-resolver": "lab_revision 1.0",
        "homepage-sidecar": 'envoy_cluster_upstream_rq_total{envoy_cluster_name="cw-ranker.v1"} ',
    }
    assert {unit for unit, count in counts.items() if count in pages[unit]} == set(pages)


def test_a_replica_that_is_added_is_a_target(metered: Lab) -> None:
    added = metered.units.scale("ml-cluster-1", 2)

    targets = {each.labels["unit"]: each for each in metered.endpoints().metrics}
    assert targets[added[1]].labels["model_cluster"] == "ml-cluster-1"
    url = targets[added[1]].url
    eventually("it has metrics", lambda: "lab_model_versions_loaded" in page_of(url), within=timedelta(seconds=15))


def test_without_the_option_only_envoys_are_targets(small_lab: Lab) -> None:
    assert {each.labels["role"] for each in small_lab.endpoints().metrics} == {"sidecar"}
    assert {unit.metrics for unit in small_lab._context.state().plan.units} == {None}
