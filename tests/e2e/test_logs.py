"""What units write about a request is found by its id."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from lab.errors import CallError, InputError
from lab.lab import Lab
from lab.roles import ACCESS_LOG
from lab.waiting import eventually
from tests.lab_command import json_of, run_lab
from tests.labs import ask


def test_every_unit_on_the_path_logs_the_request_if_asked_to(own_lab: Lab, mini_spec: Path) -> None:
    own_lab.up(spec=mini_spec, runtime="process", log_requests=True)

    # The call that verified the lab has got the lease. A caller that is late asks the resolver nevertheless.
    mesh = eventually(
        "a request goes by the lease",
        lambda: ask(own_lab, "mesh", user_id="u2").request_id,
        within=timedelta(seconds=10),
        until=lambda request_id: "resolver" not in roles_of(own_lab, request_id),
    )

    assert roles_of(own_lab, mesh) == ["caller", "sidecar", "model"]
    assert roles_of(own_lab, ask(own_lab, "gateway", user_id="u2").request_id) == ["caller", "gateway", "model"]
    shown = json_of(run_lab(own_lab, "logs", mesh, "--json"))
    assert {line["fields"]["status"] for line in shown["lines"]} == {"OK"}
    assert {line["fields"]["routing_key"] for line in shown["lines"]} == {"cw-ranker.v1"}

    with pytest.raises(CallError):
        own_lab.call("NoSuchThing", topology="mesh", caller="homepage")
    for unit in ("homepage", "homepage-resolver"):
        file = own_lab.folder / "units" / unit / ACCESS_LOG
        line = eventually(
            "the refusal is written", partial(_last, file), within=timedelta(seconds=5), until=_is_a_refusal
        )
        assert line["use_case"] == "NoSuchThing"


def test_an_id_that_no_log_has_is_refused_with_the_remedy(small_lab: Lab) -> None:
    with pytest.raises(InputError, match="--log-requests"):
        small_lab.logs("no-such-request")
    assert not (small_lab.folder / "units" / "homepage" / ACCESS_LOG).exists()


def roles_of(lab: Lab, request_id: str) -> list[str]:
    """The units that have logged the request, by their roles."""
    return [line.role for line in lab.logs(request_id)]


def _last(file: Path) -> dict[str, object]:
    lines = file.read_text().splitlines()
    return json.loads(lines[-1]) if lines else {}


def _is_a_refusal(line: dict[str, object]) -> bool:
    return line.get("status") == "NOT_FOUND"
