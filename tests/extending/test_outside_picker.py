"""One file outside the project adds a picker, which places follow or refuse, and by whose shares *balance* judges."""

from __future__ import annotations

from pathlib import Path

from docs.examples import own_picker
from lab.lab import Lab
from tests.lab_command import json_of, run_lab
from tests.labs import TWO_REPLICAS, write_spec

FILE = own_picker.__file__


def test_a_gateway_picks_by_it_and_balance_asks_for_its_shares(own_lab: Lab, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, routes=TWO_REPLICAS)
    picked = ("--picker", own_picker.PICKER.name, "--plugin", FILE)
    up = run_lab(own_lab, "up", "--spec", spec, "--topology", "gateway", *picked, "--json")
    assert [call["topology"] for call in json_of(up)["verified"]] == ["gateway"]

    asked = ("--topology", "gateway", "--caller", "homepage", "--rate", "60", "--duration", "5", "--json")
    run = json_of(run_lab(own_lab, "load", *asked), statuses=(0, 2))
    assert (run["failed"], run["misrouted"]) == (0, 0)
    checked = json_of(run_lab(own_lab, "check", run["run_dir"], "--json"), statuses=(0, 2))
    [balance] = [each for each in checked["verdicts"] if each["checker"] == "balance"]
    assert balance["outcome"] == "valid", balance


def test_a_place_that_cannot_pick_so_refuses_the_lab(own_lab: Lab, mini_spec: Path) -> None:
    picked = ("--picker", own_picker.PICKER.name, "--plugin", FILE)
    up = run_lab(own_lab, "up", "--spec", mini_spec, "--topology", "gateway,mesh", *picked)

    assert up.returncode == 1
    assert "--picker: topology mesh cannot pick by mostly-one: an Envoy weighs replicas by their endpoints" in up.stderr
    assert "Traceback" not in up.stderr
