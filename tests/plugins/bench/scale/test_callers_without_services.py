"""Commands on a lab whose callers are names alone, each with a sidecar and no service of its own."""

import json
from collections.abc import Iterator

import pytest

from lab.plugins.bench.scale.scale_lab import ScaleLab, open_scale_lab
from lab.runtime.placement import spread
from tests.lab_command import json_of, refusal, run_lab


@pytest.fixture(scope="module", name="up")
def _up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScaleLab]:
    home = tmp_path_factory.mktemp("h")
    with open_scale_lab(clusters=6, callers=3, use_cases=6, seed=1, say=lambda _: None, home=home) as up:
        with up.admin() as admin:
            admin.publish([("t.json", json.dumps(up.deployment.document))], author="test")
        yield up


def test_load_of_all_callers_is_answered(up: ScaleLab) -> None:
    done = run_lab(up.lab, "load", "--caller", "all", "--rate", "10", "--duration", "2", "--json")

    runs = json_of(done, statuses=(0, 2))["runs"]
    assert len(runs) == len(up.state.plan.callers) == 3
    assert all(each["ok"] and (each["failed"], each["misrouted"]) == (0, 0) for each in runs)


def test_a_call_through_a_service_that_is_not_there_says_what_to_do(up: ScaleLab) -> None:
    caller = next(iter(up.state.plan.callers))

    refused = refusal(run_lab(up.lab, "call", "UseCase1", "--caller", caller, "--topology", "mesh"))

    assert f"{caller!r} has no service in this lab" in refused
    assert f"lab load --caller {caller}" in refused


def test_pods_without_a_unit_of_their_name_are_spread_over_nodes(up: ScaleLab) -> None:
    nodes = spread(up.state.plan, 3)

    assert sorted(name for units in nodes.values() for name in units) == sorted(
        each.name for each in up.state.plan.units
    )
