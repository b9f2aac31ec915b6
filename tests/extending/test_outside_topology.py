"""One file outside the project adds a topology with its own unit, and everything that derives from topologies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from docs.examples import http2_proxy
from docs.site.tables import tables
from lab import CHECKOUT
from lab.lab import Lab
from lab.registry import PLUGINS
from lab.routing.keys import HEADER
from lab.transport import Security, open_blocking_channel
from models.apis import APIS
from models.proto.ranking.v1 import ranking_pb2, ranking_pb2_grpc
from tests.lab_command import json_of, run_lab
from tests.labs import address_of

NAME, FILE = http2_proxy.NAME, http2_proxy.__file__
USE_CASE = "ContinueWatchingRanking"


@pytest.fixture
def proxied(own_lab: Lab, mini_spec: Path) -> Lab:
    """A lab that is up, in a process that does not know the plugin."""
    up = run_lab(own_lab, "up", "--spec", str(mini_spec), "--topology", f"+{NAME}", "--plugin", FILE, "--json")
    assert NAME in [call["topology"] for call in json_of(up)["verified"]]
    return own_lab


def test_commands_on_a_lab_know_the_plugin_that_it_was_brought_up_with(proxied: Lab) -> None:
    options = ("--topology", NAME, "--caller", "homepage", "--json")

    assert json_of(run_lab(proxied, "call", USE_CASE, *options))["topology"] == NAME
    [proxy] = [unit for unit in json_of(run_lab(proxied, "status", "--json"))["units"] if unit["role"] == NAME]
    assert proxy["state"] == "running"
    assert json_of(run_lab(proxied, "endpoints", "--json"))["http2_proxy"] == proxy["address"]

    # A busy machine may be late, which makes the verdict unknown.
    run = json_of(run_lab(proxied, "load", "--rate", "50", "--duration", "3", *options), statuses=(0, 2))
    assert (run["offered"] > 0, run["failed"], run["misrouted"], run["torn"]) == (True, 0, 0, 0)
    checked = json_of(run_lab(proxied, "check", run["run_dir"], "--json"), statuses=(0, 2))
    verdicts = {each["checker"]: each["outcome"] for each in checked["verdicts"]}
    assert verdicts.pop("driver") in {"valid", "unknown"}
    assert {"accounting", "answered", "delivery", "origin", "routing", "tear"} <= verdicts.keys()
    assert set(verdicts.values()) == {"valid"}, verdicts

    page = Path(run["run_dir"]) / "report.html"
    assert run_lab(proxied, "report", run["run_dir"]).returncode == 0
    assert NAME in page.read_text()
    assert http2_proxy.TOPOLOGY.colour in page.read_text()


def test_the_proxy_has_an_identity_of_its_own_and_serves_callers_alone(proxied: Lab) -> None:
    address = proxied.endpoints().shared.address_of(NAME)
    stranger = Security("mtls", str(proxied.folder / "pki" / "units" / "homepage-sidecar"))
    method = APIS["ranking.v1"].unary

    with open_blocking_channel(address, stranger, peer=f"{NAME}/{NAME}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method.path)
        with pytest.raises(grpc.RpcError) as refused:
            call(b"", timeout=5)

    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_proxy_passes_a_models_refusal_on(proxied: Lab) -> None:
    homepage = Security("mtls", str(proxied.folder / "pki" / "units" / "homepage"))

    torn = ranking_pb2.RankRequest()
    torn.envelope.model_config.model, torn.envelope.model_config.version = "rows", "v1"

    def refusal(address: str, peer: str, key: str) -> grpc.StatusCode:
        with open_blocking_channel(address, homepage, peer=peer) as channel:
            ranking = ranking_pb2_grpc.RankingStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                ranking.Rank(torn, metadata=((HEADER, key),), timeout=5)
        return refused.value.code()

    proxy = proxied.endpoints().shared.address_of(NAME)
    assert (
        refusal(address_of(proxied, "ml-cluster-1-a"), "model", "cw-ranker.v1") is grpc.StatusCode.FAILED_PRECONDITION
    )
    assert refusal(proxy, NAME, "cw-ranker.v1") is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal(proxy, NAME, "nobody.v7") is grpc.StatusCode.UNAVAILABLE


def test_pages_and_scenarios_list_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, FILE)

    [row] = [row for row in tables()["topologies"].splitlines() if f"`{NAME}`" in row]
    assert http2_proxy.TOPOLOGY.reason in row

    collect = [sys.executable, "-m", "pytest", "scenarios", "--collect-only", "-q", "-p", "no:cacheprovider"]
    collected = subprocess.run(
        [*collect, "--topology", NAME], cwd=CHECKOUT, env=os.environ, capture_output=True, text=True, check=True
    ).stdout
    assert f"test_a_killed_replica_costs_only_requests_in_flight[{NAME}]" in collected


def test_the_whole_topology_is_one_short_file() -> None:
    assert len(Path(FILE).read_text().splitlines()) <= 120


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "command", [("bench", "topologies"), ("capacity", "--no-simulate")], ids=["bench topologies", "capacity"]
)
def test_what_compares_topologies_measures_it(command: tuple[str, ...], tmp_path: Path) -> None:
    lab = [str(Path(sys.executable).with_name("lab")), *command, "--plugin", FILE]
    measured = subprocess.run(
        [*lab, "--topologies", NAME, "--rounds", "3", "--json"],
        env={**os.environ, "LAB_HOME": str(tmp_path), "LAB_RUNTIME": "process"},
        capture_output=True,
        text=True,
        check=False,
        timeout=360,
    )

    assert measured.returncode in {0, 2}, measured.stderr
    assert f'"{NAME}"' in measured.stdout
