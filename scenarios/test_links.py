"""Zones with links between them, and a link that becomes slower while it carries requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from lab.links import ROLE as LINK
from lab.runs import LoadOptions
from lab.spec import SIZES, read_spec
from scenarios.framework.catalogue import default_topologies
from scenarios.framework.steps import assert_all_answered_rightly, own_lab, records_of, verdict_of

if TYPE_CHECKING:
    from lab.lab import Lab
    from scenarios.framework.scenario import Scenario

DELAY_MS, SLOWER_MS = 0.5, 30.0
_ZONES = 'west = ["caller"]\neast = ["gateway", "central-envoy", "model"]\n'


@pytest.fixture(scope="module")
def _linked(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    shipped = read_spec(SIZES["links"])
    pages = "".join(f"[callers.{name}]\npage = {json.dumps(page)}\n" for name, page in shipped.pages.items())
    links = f"[links]\ndelay_ms = {DELAY_MS}\n[links.zones]\n{_ZONES}"
    spec = f"topologies = {json.dumps(default_topologies())}\n{pages}{links}"
    with own_lab(pytestconfig, tmp_path_factory.mktemp("links"), spec, shipped.routes.read_text()) as lab:
        yield lab


@pytest.fixture
def linked(_linked: Lab, scenario: Scenario) -> Lab:
    """A lab whose callers are in one zone, and everything that they call in another."""
    scenario.watch(_linked)
    return _linked


@pytest.mark.smoke
@pytest.mark.scenario(takes_s=12, runtimes=("compose", "process"))
def test_a_slower_link_delays_everyone_and_fails_nobody(scenario: Scenario, linked: Lab, topology: str) -> None:
    """Every answer takes the link's round trip, before and while the link is slower."""
    load = LoadOptions(topology=topology, caller="homepage", use_cases=("HomepageRows",), rate=40, duration_s=3)
    with scenario.step("Drive load from one zone to another"):
        before = linked.load(load)
    with scenario.fault("delay", LINK, lab=linked, ms=SLOWER_MS) as fault:
        with scenario.step("Slow the links down, and drive load again"):
            during = linked.load(load)
        scenario.see_fault(fault)

    for run, least_ms in ((before, 2 * DELAY_MS), (during, 2 * (DELAY_MS + SLOWER_MS))):
        assert_all_answered_rightly(run)
        assert str(verdict_of(run, "links")) == "valid"
        fastest_ms = min((record.done_ns - record.sent_ns) / 1e6 for record in records_of(run))
        assert fastest_ms >= least_ms
        scenario.figure(f"fastest answer over links of {least_ms / 2:g} ms", f"{fastest_ms:.1f} ms")
