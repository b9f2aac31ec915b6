"""Third-party proxies: each does what its topology declares, and nothing more.

They are not in the default lab: ``make proxies``, then ``make scenarios ARGS='--topology gateway-nginx'``.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest

from lab.checkers import Outcome
from lab.routing.document import read_path
from lab.topologies import TOPOLOGIES
from scenarios.framework.moves import CLUSTERS, last_old_ms, move_there_and_back
from scenarios.framework.steps import (
    PHONES,
    arrived,
    assert_all_answered_rightly,
    load_on,
    seen_by,
    table_with,
    under_load,
    verdict_of,
)

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

CHANGES, RATE_RPS = 50, 400.0
CLUSTER = CLUSTERS[0]
VICTIM = f"{CLUSTER}-a"
TENANT = "noisy"
LARGE_BYTES = 2_000_000
SHADOW = "cw-ranker@v3"


@pytest.mark.scenario(takes_s=30, topologies="rendered", runtimes=("process",))
def test_fifty_changes_through_anothers_proxy_disturb_nobody(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A model moves fifty times between two clusters under 400 requests a second: none fails or is misrouted."""
    contexts = {"device": ("phone", "tv"), "country": ("DE", "US")}
    with (
        under_load(lab, load_on(topology, RATE_RPS, duration_s=100, contexts=contexts)) as run,
        scenario.step(f"Move the model {CHANGES} times"),
    ):
        moves = move_there_and_back(lab, routes, tmp_path, CHANGES)
    with scenario.step("Judge every answer"):
        result = run.result()
    last_ms = last_old_ms(result, moves)
    scenario.figure("failed, misrouted", f"{result.summary.failed}, {result.misrouted} of {result.summary.planned}")
    scenario.figure("ms to the last answer from where it was", f"median {median(last_ms):.0f}, max {max(last_ms):.0f}")
    assert_all_answered_rightly(result)
    assert seen_by(result, "cluster") >= set(CLUSTERS), "no request saw the move"


@pytest.mark.scenario(takes_s=9, topologies="rendered", runtimes=("process",))
def test_anothers_proxy_retries_and_ejects_as_declared(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """One of two replicas fails every request of a use case with retries and outliers: half fail, if neither works."""
    has = TOPOLOGIES[topology].capabilities
    with scenario.step("Publish a table with retries and outliers"):
        settings = {"retries": {"attempts": 3, "on": ["internal"], "at_least": 100}, "outliers": {"errors": 5}}
        lab.routes.publish(table_with(routes, tmp_path, rules=[], **settings))
    with scenario.step(f"Let {VICTIM} fail every request, and ask"), scenario.fault("error", VICTIM, rate=1):
        before = arrived(lab, CLUSTER)
        result = lab.load(load_on(topology, rate=100, duration_s=3, contexts=PHONES))
        sent, reached = result.summary.planned, arrived(lab, CLUSTER) - before
    failed = result.summary.by_status.get("INTERNAL", 0)
    scenario.figure("failed", f"{failed} of {sent}; {reached} reached the model")
    assert result.misrouted == 0
    assert failed + result.summary.ok == sent, result.summary.by_status
    if has.retries or has.outlier_ejection:
        assert failed < sent / 4, result.folder
    else:
        # Chosen round-robin or at random: five standard deviations of the latter.
        assert abs(failed - sent / 2) <= 5 * (sent / 4) ** 0.5, result.folder
    if not has.retries:
        assert reached <= sent + 1, "the driver asks once before it begins"


@pytest.mark.scenario(takes_s=5, topologies="rendered", runtimes=("process",))
def test_anothers_proxy_limits_tenants_as_declared(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A tenant that may send ten requests a second sends a hundred: it is refused only if the proxy limits rates."""
    document = read_path(routes).document
    document["tenants"][TENANT] = {"rate": 10, "burst": 10}
    table = tmp_path / "limited.yaml"
    table.write_text(json.dumps(document))
    with scenario.step("Publish a limit, and exceed it"):
        lab.routes.publish(table)
        result = lab.load(load_on(topology, rate=100, duration_s=2, contexts={**PHONES, "tenant": (TENANT,)}))
    refused = result.summary.by_status.get("RESOURCE_EXHAUSTED", 0)
    scenario.figure("refused", f"{refused} of {result.summary.planned}")
    assert (refused > 0) == bool(TOPOLOGIES[topology].capabilities.tenant_rates), result.folder


@pytest.mark.scenario(takes_s=9, topologies="rendered", runtimes=("process",))
def test_anothers_proxy_passes_large_requests_streams_and_copies(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """Requests of 2 MB, half of them answered by streams, arrive whole, and so do all copies for a shadow."""
    with scenario.step("Publish a shadow of everything"):
        shadow = {"use": SHADOW, "percent": 100}
        lab.routes.publish(table_with(routes, tmp_path, rules=[], shadow=shadow))
    for size in (400, LARGE_BYTES):
        with scenario.step(f"Send requests of {size:,} bytes"):
            load = load_on(topology, rate=8, duration_s=3, contexts=PHONES, payload_bytes=size, streams=50)
            result = lab.load(load)
        assert_all_answered_rightly(result)
        assert verdict_of(result, "streams") == Outcome.VALID, result.folder
        assert verdict_of(result, "shadow") == Outcome.VALID, result.folder
