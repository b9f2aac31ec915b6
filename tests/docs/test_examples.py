"""The examples of "Add your own" do what their pages say, against labs that are up."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from docs.examples import bounce, pinned_gateway
from lab import CHECKOUT
from lab.lab import Lab
from lab.registry import PLUGINS
from lab.runs import LoadOptions
from lab.topologies import open_client
from lab.transport import open_blocking_channel
from lab.waiting import eventually
from models.apis import APIS
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from models.proto.serving.v1 import serving_pb2
from tests.lab_command import run_lab
from tests.labs import lab_up

EXAMPLES = CHECKOUT / "docs" / "examples"
ON_THE_PHONE = {"user_id": "u1", "device": "phone"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The example's caller beside the homepage, and nothing more; a server of one's own has no certificate."""
    with lab_up(tmp_path_factory.mktemp("trailers"), spec=EXAMPLES / "trailers.toml", security="plaintext") as lab:
        yield lab


def test_a_render_target_of_ones_own_lists_what_its_map_does_not_say() -> None:
    done = run_lab(None, "render", "haproxy-map", "--plugin", EXAMPLES / "haproxy_map.py")

    assert done.stdout.startswith("# clusters.map\ncw-ranker.v1 ml-cluster-1\ncw-ranker.v2 ml-cluster-2\n")
    assert "rules[0] (kids): a map has one key, and the rules read many fields; a resolver decides" in done.stderr


def test_a_caller_of_ones_own_asks_stage_by_stage(lab: Lab) -> None:
    with open_blocking_channel(lab.endpoints().callers["trailers"]) as channel:
        page = caller_pb2_grpc.PagesStub(channel).GetPage(
            caller_pb2.GetPageRequest(context=serving_pb2.RequestContext(user_id="u1"), topology="mesh"), timeout=10
        )

    asked = [section.use_case for section in page.sections]
    assert asked == ["HomepageRows", "UpNext", "ContinueWatchingRanking"]
    assert {section.error for section in page.sections} == {""}


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
        known = lab.control_plane_status()
        return {each.replica for each in known.replicas if each.loaded} if known else set()

    with alphabetical(lab, "ml-cluster-1"):
        # Two replicas take turns, so it is not always this one.
        seen = eventually(
            "it answers",
            answered_by,
            within=timedelta(seconds=20),
            until=lambda seen: seen.startswith("alphabetical"),
        )
        assert seen == "alphabetical: t00 1.000, t01 0.500, t02 0.333, and 7 more"
        assert replicas() == {"ml-cluster-1-a", "alphabetical"}

    eventually("it is gone", replicas, within=timedelta(seconds=10), until=lambda left: left == {"ml-cluster-1-a"})


def test_a_checker_of_ones_own_judges_beside_the_labs(lab: Lab, tmp_path: Path) -> None:
    run = lab.load(LoadOptions(topology="mesh", caller="homepage", rate=50, duration_s=1))

    patient = _judged(run_lab(None, "check", str(run.folder), "--plugin", str(EXAMPLES / "patience.py"), "--json"))
    hasty = tmp_path / "hasty.py"
    hasty.write_text((EXAMPLES / "patience.py").read_text().replace("LIMIT_MS = 1_000.0", "LIMIT_MS = 0.001"))
    impatient = _judged(run_lab(None, "check", str(run.folder), "--checker", str(hasty), "--json"))

    assert set(patient) == {*(verdict.checker for verdict in run.verdicts), "patience"}
    # A second is long even for a machine that has much else to do.
    assert {"patience": patient["patience"]} == {"patience": "valid"}
    assert impatient["patience"] == "invalid"


def _judged(result: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert result.stdout, result.stderr
    return {each["checker"]: each["outcome"] for each in json.loads(result.stdout)["verdicts"]}


def test_a_scenario_of_ones_own_runs_like_the_labs(default_lab: Lab, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(EXAMPLES / "test_two_revisions.py"),
    ]
    command += ["--lab-name", default_lab.name, "--lab-topology", "mesh", "-q", "-p", "no:cacheprovider"]
    command += ["--lab-runs", str(tmp_path)]
    result = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={**os.environ, "LAB_HOME": str(default_lab.folder.parent.parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


def test_a_fault_of_ones_own_is_injected_seen_and_healed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, bounce.__file__)

    with lab.faults.injected("bounce", "ml-cluster-1-a", seed=1) as fault:
        assert fault.observe().because == "1 of 1 units have another process than before"

    assert lab.faults.active() == []
    assert {unit.state for unit in lab.status().units} == {"running"}


def test_a_bench_of_ones_own_runs_with_its_own_option() -> None:
    bench = ("bench", "--plugin", str(EXAMPLES / "new_connection.py"), "new-connection")

    shown, refused = run_lab(None, *bench, "--help"), run_lab(None, *bench, "--payloads", "1GB")
    ran = run_lab(None, *bench, "--payloads", "400B,27KB", "--rounds", "3", "--json")

    assert "What does a new connection for every request cost?" in " ".join(shown.stdout.split())
    assert "--payloads: '1GB' is not known; there are 400B, 27KB" in refused.stderr
    (result,) = json.loads(ran.stdout)["benches"]
    assert result["name"] == "new-connection"
    assert {name: len(values) for name, values in result["rounds"].items()} == {
        f"{kind}, {size}": 3 for size in ("400B", "27KB") for kind in ("reused", "new")
    }


async def test_a_topology_of_ones_own_keeps_each_caller_to_one_gateway(
    default_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, pinned_gateway.__file__)

    async def ask(caller: str, times: int) -> list[str]:
        client = open_client("gateway-pinned", caller, default_lab.endpoints().clients[caller])
        try:
            await client.ready()
            request = APIS["ranking.v1"].build_request(400)
            return [(await client.call("ContinueWatchingRanking", request, {})).request_id for _ in range(times)]
        finally:
            await client.close()

    homepage, recommendations = await ask("homepage", 6), await ask("recommendations", 6)

    met = [{line.unit for id_ in ids for line in default_lab.logs(id_)} for ids in (homepage, recommendations)]
    assert sorted(met, key=str) == [{"gateway-1"}, {"gateway-2"}]
