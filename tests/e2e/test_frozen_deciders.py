"""A resolver or gateway is frozen while a revision is published: nobody gets an answer by rules that have ended."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import pytest

from lab.checkers import Outcome
from lab.lab import Lab
from lab.waiting import eventually
from scenarios.framework.steps import PHONES, load_on, seen_by, table_with, under_load, verdict_of

WITHIN = timedelta(seconds=15)
PUBLISHED_WITHIN_S = 10.0
MESH, GATEWAY = ("mesh", "homepage-resolver"), ("gateway", "gateway-1")


@pytest.mark.parametrize(
    ("topology", "frozen"),
    [MESH, GATEWAY, ("gateway-header", "homepage-resolver"), ("proxyless", "homepage-resolver")],
)
def test_a_publish_goes_on_without_it_and_its_callers_get_no_answer_by_ended_rules(
    lab: Lab, routes: Path, tmp_path: Path, topology: str, frozen: str
) -> None:
    other_way, other_caller = (GATEWAY[0], "homepage") if topology != "gateway" else (MESH[0], "search")

    def answered_by() -> str:
        use_case = "ContinueWatchingRanking" if other_caller == "homepage" else "SearchRanking"
        return lab.call(use_case, topology=other_way, caller=other_caller, context={"device": "phone"}).version

    lab.routes.publish(table_with(routes, tmp_path, default="cw-ranker@v1"))
    try:
        with under_load(lab, load_on(topology, rate=100, users=20, contexts=PHONES)) as load:
            lab.units.pause(frozen)
            try:
                began = time.monotonic()
                lab.routes.publish(table_with(routes, tmp_path, default="cw-ranker@v2"))
                took_s = time.monotonic() - began
                in_force_ns = time.time_ns() + 500_000_000
                assert answered_by() == ("v2" if other_caller == "homepage" else "v1")
                eventually("requests come after it", time.time_ns, within=WITHIN, until=(in_force_ns + 10**9).__lt__)
            finally:
                lab.units.resume(frozen)
            eventually("it has caught up", lambda: not _behind(lab), within=WITHIN)
            resumed_ns = time.time_ns() + 500_000_000
            eventually("requests come after that", time.time_ns, within=WITHIN, until=(resumed_ns + 10**9).__lt__)
    finally:
        lab.routes.publish(routes)

    result = load.result()
    assert took_s < PUBLISHED_WITHIN_S
    assert (result.misrouted, verdict_of(result, "staleness")) == (0, Outcome.VALID)
    assert seen_by(result, "version") >= {"v1", "v2"}


def _behind(lab: Lab) -> list[str]:
    status = lab.status().control_plane
    assert status is not None
    return [each.node for each in (*status.nodes, *status.away) if each.behind]
