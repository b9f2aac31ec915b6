"""What units write about a request is found by its id."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from lab.errors import CallError, InputError
from lab.roles import ACCESS_LOG
from lab.waiting import eventually
from tests.lab_command import run_lab

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lab.lab import Lab


def test_every_unit_on_the_way_writes_a_line_where_it_is_asked_to(new_lab: Callable[[], Lab], mini_spec: Path) -> None:
    lab = new_lab()
    lab.up(spec=mini_spec, runtime="process", log_requests=True)

    by_topology = {
        topology: lab.call("ContinueWatchingRanking", topology=topology, caller="homepage", context={"user_id": "u2"})
        for topology in ("mesh", "gateway")
    }

    roles = {topology: [line.role for line in lab.logs(answer.request_id)] for topology, answer in by_topology.items()}
    # The call that verified the lab has got the lease, so nobody asks the resolver any more.
    assert roles == {"mesh": ["caller", "sidecar", "model"], "gateway": ["caller", "gateway", "model"]}
    shown = json.loads(run_lab(lab, "logs", by_topology["mesh"].request_id, "--json").stdout)
    assert {line["fields"]["status"] for line in shown["lines"]} == {"OK"}
    assert {line["fields"]["routing_key"] for line in shown["lines"]} == {"cw-ranker.v1"}

    with pytest.raises(CallError):
        lab.call("NoSuchThing", topology="mesh", caller="homepage")
    for unit in ("homepage", "homepage-resolver"):
        file = lab.folder / "units" / unit / ACCESS_LOG
        line = eventually(
            "the refusal is written", partial(_last, file), within=timedelta(seconds=5), until=_is_a_refusal
        )
        assert line["use_case"] == "NoSuchThing"


def test_who_asks_for_a_request_that_nobody_has_written_of_is_told_what_to_do(
    new_lab: Callable[[], Lab], mini_spec: Path
) -> None:
    lab = new_lab()
    lab.up(spec=mini_spec, runtime="process")

    with pytest.raises(InputError, match="--log-requests"):
        lab.logs("no-such-request")
    assert not (lab.folder / "units" / "homepage" / ACCESS_LOG).exists()


def _last(file: Path) -> dict[str, object]:
    lines = file.read_text().splitlines()
    return json.loads(lines[-1]) if lines else {}


def _is_a_refusal(line: dict[str, object]) -> bool:
    return line.get("status") == "NOT_FOUND"
