"""The examples of "Add your own" do what their pages say, against labs that are up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from docs.examples import bounce, pinned_gateway
from lab.client import TOPOLOGIES, open_client
from lab.faults.registry import KINDS
from lab.lab import CHECKOUT, Lab
from lab.runs import LoadOptions
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.apis import APIS
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EXAMPLES = CHECKOUT / "docs" / "examples"
ON_THE_PHONE = {"user_id": "u1", "device": "phone"}


@pytest.fixture
def lab(new_lab: Callable[[], Lab]) -> Lab:
    """The example's caller beside the homepage, and nothing more."""
    lab = new_lab()
    lab.up(spec=EXAMPLES / "trailers.toml", runtime="process")
    return lab


def test_a_caller_of_ones_own_asks_stage_by_stage(lab: Lab) -> None:
    with open_blocking_channel(lab.endpoints().callers["trailers"]) as channel:
        page = caller_pb2_grpc.CallerStub(channel).GetPage(
            caller_pb2.GetPageRequest(context=serving_pb2.RequestContext(user_id="u1"), topology="mesh"), timeout=10
        )

    asked = [section.use_case for section in page.sections]
    assert ["HomepageRows", "UpNext", "ContinueWatchingRanking"] == asked
    assert {""} == {section.error for section in page.sections}


@contextmanager
def alphabetical(lab: Lab, cluster: str) -> Iterator[None]:
    """The example's model server, as the page starts it."""
    command = [sys.executable, "-m", "docs.examples.alphabetical", lab.endpoints().control_plane, cluster]
    with subprocess.Popen(command, cwd=CHECKOUT) as server:
        try:
            yield
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=10) == 0


def test_a_model_server_of_ones_own_joins_a_cluster_and_leaves_it_again(lab: Lab) -> None:
    def answered_by() -> str:
        answer = lab.call("UpNext", topology="mesh", caller="trailers", context=ON_THE_PHONE)
        return f"{answer.replica}: {answer.result}"

    def replicas() -> set[str]:
        known = lab.status().control_plane
        return {each.replica for each in known.replicas if each.loaded} if known else set()

    with alphabetical(lab, "ml-cluster-1"):
        # Two replicas take turns, so it is not always this one.
        seen = eventually(
            "it answers",
            answered_by,
            within=timedelta(seconds=20),
            until=lambda seen: seen.startswith("alphabetical"),
        )
        assert "alphabetical: t00 1.000, t01 0.500, t02 0.333, and 7 more" == seen
        assert {"ml-cluster-1-a", "alphabetical"} == replicas()

    eventually("it is gone", replicas, within=timedelta(seconds=10), until=lambda left: left == {"ml-cluster-1-a"})


def test_a_checker_of_ones_own_judges_beside_the_labs(
    lab: Lab, run_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=1))

    patient = _judged(run_lab(None, "check", str(run.folder), "--checker", str(EXAMPLES / "patience.py"), "--json"))
    hasty = tmp_path / "hasty.py"
    hasty.write_text((EXAMPLES / "patience.py").read_text().replace("LIMIT_MS = 1_000.0", "LIMIT_MS = 0.001"))
    impatient = _judged(run_lab(None, "check", str(run.folder), "--checker", str(hasty), "--json"))

    assert {"accounting", "driver", "routing", "tear", "patience"} == set(patient)
    # A second is long even for a machine that has much else to do.
    assert {"patience": "valid"} == {"patience": patient["patience"]}
    assert "invalid" == impatient["patience"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file"),
        ("", "write NAME"),
        ("NAME = 'tear'\n\ndef check(evidence): ...\n", "'tear' is the name of one of the lab's own"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_that_is_no_checker_is_refused_in_one_line(
    run_lab: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "own.py"
    if text is not None:
        file.write_text(text)

    result = run_lab(None, "check", str(tmp_path), "--checker", str(file))

    assert 1 == result.returncode
    assert words in result.stderr
    assert 1 == result.stderr.count("\n")


def _judged(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert result.stdout, result.stderr
    return {each["checker"]: each["outcome"] for each in json.loads(result.stdout)["verdicts"]}


def test_a_scenario_of_ones_own_runs_like_the_labs(new_lab: Callable[[], Lab], tmp_path: Path) -> None:
    lab = new_lab()
    lab.up(topologies=["mesh"], runtime="process")
    command = [sys.executable, "-m", "pytest", "-p", "scenarios.conftest", EXAMPLES / "test_two_revisions.py"]
    command += ["--lab", lab.name, "--topology", "mesh", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "LAB_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_a_fault_of_ones_own_is_injected_seen_and_healed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, bounce.Bounce.name, bounce.Bounce())

    with lab.injected("bounce", "ml-cluster-1-a", seed=1) as fault:
        assert "1 of 1 units are other processes than before" == fault.observe().because

    assert [] == lab.faults()
    assert {"running"} == {unit.state for unit in lab.status().units}


async def test_a_topology_of_ones_own_keeps_each_caller_to_one_gateway(
    new_lab: Callable[[], Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = new_lab()
    lab.up(topologies=["gateway"], runtime="process")
    kind = pinned_gateway.PinnedGatewayClient
    monkeypatch.setitem(TOPOLOGIES, kind.topology, kind)

    async def ask(caller: str, times: int) -> list[str]:
        client = open_client(kind.topology, caller, lab.endpoints().clients[caller])
        try:
            await client.ready()
            request = APIS["ranking.v1"].build_request(400)
            return [(await client.call("ContinueWatchingRanking", request, {})).request_id for _ in range(times)]
        finally:
            await client.close()

    homepage, recommendations = await ask("homepage", 6), await ask("recommendations", 6)

    met = [{line.unit for id_ in ids for line in lab.log_lines(id_)} for ids in (homepage, recommendations)]
    assert [{"gateway-1"}, {"gateway-2"}] == sorted(met, key=str)
