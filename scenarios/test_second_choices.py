"""Shadow copies, and fallbacks when the first choice fails."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.waiting import eventually
from scenarios.framework.steps import (
    PHONES,
    assert_all_answered_rightly,
    assert_rate_was_kept,
    cut_by,
    load_on,
    records_of,
    registered,
    table_with,
    under_load,
    verdict_of,
)
from scenarios.framework.verdicts import UnknownError

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

FIRST, NEXT = "ml-cluster-1", "ml-cluster-2"
WITHIN = timedelta(seconds=10)
SLOW_NS = 900_000_000


@pytest.mark.scenario(takes_s=6)
def test_a_shadow_gets_every_copy_unnoticed(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """A shadow that takes a second and fails half of its copies gets them all, and costs no caller anything."""
    with scenario.step("Publish a shadow of 20 % on a slow, broken cluster"):
        lab.routes.publish(table_with(routes, tmp_path, shadow={"use": "cw-ranker@v3", "percent": 20}))
    with (
        scenario.step("Drive load, and ask the replicas which copies came"),
        scenario.fault("error", NEXT, rate=0.5, share=1),
        scenario.fault("slow", NEXT, ms=1_000, share=1),
    ):
        result = lab.load(load_on(topology, rate=200, duration_s=3, contexts=PHONES))

    assert_all_answered_rightly(result)
    assert str(verdict_of(result, "shadow")) == "valid"
    records = records_of(result)
    copied = [record for record in records if record.shadow]
    assert 0.1 < len(copied) / len(records) < 0.3
    assert {record.version for record in records} == {"v1"}
    assert_rate_was_kept(result)
    # A caller that waited for its copy would wait a second. A machine that stalls makes the others wait as well, of
    # which there are four times as many.
    slow = [record for record in records if record.done_ns - record.sent_ns >= SLOW_NS]
    slow_copied = [record for record in slow if record.shadow]
    assert len(slow_copied) <= len(slow) / 2, f"{len(slow_copied)} of {len(slow)} slow requests had a copy"


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=4)
def test_a_dead_cluster_falls_back_at_once(
    scenario: Scenario, lab: Lab, topology: str, routes: Path, tmp_path: Path
) -> None:
    """With both replicas dead the fallback answers every request, from the next one on, and says so."""
    with scenario.step("Publish a fallback on another cluster"):
        lab.routes.publish(table_with(routes, tmp_path, fallback=["cw-ranker@v3"]))
    load = load_on(topology, rate=200, contexts=PHONES)
    with under_load(lab, load) as run, scenario.step(f"Kill all of {FIRST}"):
        fault = scenario.kill(FIRST)
    with scenario.step("Start them, and wait until they are registered"):
        fault.heal()
        eventually("the cluster is back", lambda: set(fault.record.units) <= registered(lab), within=WITHIN)
    with scenario.step("Judge every answer"):
        result = run.result()
    assert_all_answered_rightly(result)
    records, cut = records_of(result), cut_by(lab, fault)
    answers = Counter((record.source, record.version) for record in records)
    assert answers.keys() == {("model", "v1"), ("fallback", "v3")}, answers
    # No request was lost: all that were sent once both were dead were answered by the fallback.
    after = {record.source for record in records if record.sent_ns > cut.until_ns}
    if not after:
        raise UnknownError(f"nothing was sent once both were dead\n{result.folder}")
    assert after == {"fallback"}
    assert {record.source for record in records if record.done_ns < cut.from_ns} == {"model"}
