"""Controls that run a proxy of others, as the lab configures it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from lab.lab import Lab
from tests.lab_command import LAB, json_of, run_lab
from tests.ports import free_port
from tests.proxies import GATEWAYS, need

CHECKS = "header-matching,no-replica,weights,removed-key,drain"
# Traefik answers for a model that is down by a status of HTTP.
EXPECTED = {"traefik": {"no-replica": "fail"}}


@pytest.mark.parametrize("topology", GATEWAYS)
def test_a_proxy_is_started_configured_and_ended(topology: str) -> None:
    need(topology)
    proxy = GATEWAYS[topology]
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", "--control", proxy, "--checks", CHECKS, "--json")
    results = {each["feature"]: each for each in json_of(done, statuses=(0, 2))["results"]}

    seen = {name: each["verdict"] for name, each in results.items()}
    passing = dict.fromkeys(("header-matching", "no-replica", "removed-key", "drain"), "pass")
    assert seen == {**passing, "weights": "unknown", **EXPECTED.get(proxy, {})}, results
    assert f"control {proxy} cannot configure weights" in results["weights"]["reason"]


def test_ctrl_c_ends_the_proxy() -> None:
    need("gateway-nginx")
    with subprocess.Popen(
        [LAB, "conform", f"127.0.0.1:{free_port()}", "--control", "nginx"], stderr=subprocess.PIPE, text=True
    ) as command:
        assert command.stderr is not None
        next(line for line in command.stderr if "cancellation" in line)
        started = psutil.Process(command.pid).children(recursive=True)
        [nginx] = [each for each in started if "-p" in each.cmdline()]
        folder = Path(nginx.cmdline()[nginx.cmdline().index("-p") + 1])
        assert folder.is_dir()
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=30)

    assert command.returncode == 130
    assert [each for each in started if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    assert not folder.exists()


def test_the_central_envoy_of_a_lab_is_tried(own_lab: Lab, mini_spec: Path) -> None:
    up = ("up", "--spec", mini_spec, "--topology", "+gateway-header", "--security", "plaintext", "--json")
    json_of(run_lab(own_lab, *up))
    envoy = own_lab.endpoints().shared.address_of("central-envoy")
    checks = "header-matching,replica-death,config-change,weights"
    done = run_lab(own_lab, "conform", envoy, "--control", "central-envoy", "--checks", checks, "--json")

    results = {each["feature"]: each for each in json_of(done)["results"]}
    passing = dict.fromkeys(("header-matching", "replica-death", "config-change"), "pass")
    assert {name: each["verdict"] for name, each in results.items()} == {**passing, "weights": "unknown"}, results


def test_a_gateway_of_a_lab_is_tried_by_the_envelope(own_lab: Lab, mini_spec: Path) -> None:
    json_of(run_lab(own_lab, "up", "--spec", mini_spec, "--topology", "gateway", "--security", "plaintext", "--json"))
    gateway = own_lab.endpoints().shared.address_of("gateway")
    asked = "header-matching,header-conditions,weights,sticky,churn,shadow,context,unknown-key,replica-death,metadata"
    done = run_lab(own_lab, "conform", gateway, "--envelope", "--control", "gateway", "--checks", asked, "--json")

    results = {each["feature"]: each for each in json_of(done, statuses=(2,))["results"]}
    passing = dict.fromkeys(asked.split(","), "pass")
    expected = {**passing, "header-conditions": "unknown", "metadata": "fail"}
    assert {name: each["verdict"] for name, each in results.items()} == expected, results


def test_an_envoy_has_all_that_its_routes_ask_for() -> None:
    asked = "header-matching,header-conditions,method-matching,weights,sticky,churn,shadow,config-change,unknown-key"
    done = run_lab(None, "conform", f"127.0.0.1:{free_port()}", "--control", "envoy", "--checks", asked, "--json")

    results = {each["feature"]: each for each in json_of(done)["results"]}
    assert {name: each["verdict"] for name, each in results.items()} == dict.fromkeys(asked.split(","), "pass"), results
