"""One file outside the project adds a proxy that a renderer configures, and everything that derives from renderers."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.examples import own_proxy_renderer
from docs.site.tables import tables
from lab.lab import Lab
from lab.registry import PLUGINS
from scenarios.framework.catalogue import topologies_of
from tests.lab_command import json_of, run_lab
from tests.ports import free_port

NAME, FILE = own_proxy_renderer.NAME, own_proxy_renderer.__file__
TOPOLOGY = f"gateway-{NAME}"


def test_a_lab_configures_it_and_its_answers_are_judged(own_lab: Lab, mini_spec: Path) -> None:
    options = ("--spec", mini_spec, "--topology", f"+{TOPOLOGY}", "--security", "plaintext", "--plugin", FILE, "--json")
    up = run_lab(own_lab, "up", *options)
    assert TOPOLOGY in [call["topology"] for call in json_of(up)["verified"]]
    [proxy] = [unit for unit in json_of(run_lab(own_lab, "status", "--json"))["units"] if unit["role"] == NAME]
    assert proxy["state"] == "running"

    # A busy machine may be late, which makes the verdict unknown.
    asked = ("--topology", TOPOLOGY, "--caller", "homepage", "--rate", "50", "--duration", "2", "--json")
    run = json_of(run_lab(own_lab, "load", *asked), statuses=(0, 2))
    assert (run["offered"] > 0, run["failed"], run["misrouted"]) == (True, 0, 0)
    checked = json_of(run_lab(own_lab, "check", run["run_dir"], "--json"), statuses=(0, 2))
    verdicts = {each["checker"]: each["outcome"] for each in checked["verdicts"]}
    assert (verdicts["routing"], verdicts["path"]) == ("valid", "valid")


def test_it_refuses_what_it_cannot_do_in_one_line(own_lab: Lab, mini_spec: Path) -> None:
    up = run_lab(own_lab, "up", "--spec", mini_spec, "--topology", f"+{TOPOLOGY}", "--plugin", FILE)

    assert up.returncode == 1
    assert f"{NAME} has no TLS: lab up --security plaintext" in up.stderr
    assert "Traceback" not in up.stderr


def test_conform_runs_it() -> None:
    checks = "header-matching,weights,removed-key,drain"
    options = ("--control", NAME, "--checks", checks, "--plugin", FILE, "--json")
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", *options)

    results = {each["feature"]: each for each in json_of(done, statuses=(0, 1, 2))["results"]}
    passing = dict.fromkeys(("header-matching", "removed-key", "drain"), "pass")
    assert {name: each["verdict"] for name, each in results.items()} == {**passing, "weights": "unknown"}, results
    assert f"control {NAME} cannot configure weights" in results["weights"]["reason"]


def test_pages_and_scenarios_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, FILE)

    derived = tables()
    assert f"| Own proxy | `{TOPOLOGY}` | a file of routes, which SIGHUP reads |" in derived["renderers"]
    assert f"`{TOPOLOGY}`" in derived["proxies"].partition("\n")[0]
    assert TOPOLOGY in (topologies_of({"topologies": "rendered"}) or ())
