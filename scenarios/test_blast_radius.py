"""A dead unit reaches exactly the callers whose requests pass through it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from lab.waiting import eventually
from scenarios.framework.steps import await_connected, connected, is_answered

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

ASKS = {
    "homepage": "ContinueWatchingRanking",
    "search": "SearchRanking",
    "playback": "UpNext",
    "payments": "FraudDetection",
    "recommendations": "ContinueWatchingRanking",
}
PATHS = ("gateway-header", "mesh", "proxyless")
BACK_WITHIN = timedelta(seconds=10)


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=4, topologies=PATHS)
@pytest.mark.parametrize(
    ("victim", "path", "cut_off"),
    [
        ("central-envoy", "gateway-header", set(ASKS)),
        ("homepage-sidecar", "mesh", {"homepage"}),
        # Nothing else is on the path, and leases spare the resolver's answer.
        ("control-plane", "proxyless", set()),
    ],
)
def test_a_dead_hop_reaches_only_its_users(
    scenario: Scenario, lab: Lab, victim: str, path: str, cut_off: set[str]
) -> None:
    """The central Envoy's death cuts off all callers, a sidecar's its own caller, the control plane's nobody."""
    with scenario.step("Check that every caller is answered on each topology"):
        for each in PATHS:
            _await_answers(lab, each)
        nodes = connected(lab) & {unit.name for unit in lab.status().units}
    with scenario.step(f"Kill {victim}, and call as each caller on each topology"):
        fault = scenario.kill(victim)
        assert {each: cut_off if each == path else set() for each in PATHS} == {
            each: _cut_off(lab, each) for each in PATHS
        }
    with scenario.step(f"Start {victim}, and wait until all are answered again"):
        fault.heal()
        _await_answers(lab, path)
        await_connected(lab, nodes)


def _await_answers(lab: Lab, topology: str) -> None:
    eventually(
        f"{topology} answers all callers",
        lambda: _cut_off(lab, topology),
        within=BACK_WITHIN,
        until=lambda who: not who,
    )


def _cut_off(lab: Lab, topology: str) -> set[str]:
    """Callers that get no answer on this topology."""
    return {caller for caller, use_case in ASKS.items() if not is_answered(lab, topology, caller, use_case)}
