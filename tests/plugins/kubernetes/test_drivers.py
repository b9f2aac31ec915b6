"""Several load drivers as an indexed Job: its objects, and runs of real drivers in pods of a fake."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.checkers import Driver, Outcome
from lab.checkers.kinds import drivers as checker
from lab.client import Endpoints
from lab.errors import UnitError
from lab.history import read_spool
from lab.load.arrivals import Constant
from lab.load.plan import PLAN_FILE, LoadPlan, write_plan
from lab.load.progress import Progress
from lab.plugins.kubernetes.load_job import load_job
from lab.plugins.kubernetes.naming import Setting, pods_of
from lab.reading import read_json
from tests.checkers.builders import make_evidence
from tests.kubernetes_server import FakeServer, Manifest, fake_cluster
from tests.load.builders import gated_server, load_plan
from tests.manifests import problems
from tests.plugins.kubernetes.labs import asked_beyond_its_role, brought_up, configured
from tests.plugins.kubernetes.local_pods import LocalPods
from tests.plugins.kubernetes.test_manifests import IMAGE, found, objects, planned

GOLDEN = Path(__file__).with_name("drivers.yaml")
SETTING = Setting(lab="mini", namespace="lab", image=IMAGE, security="mtls", attended=True)


@pytest.fixture
def pods(tmp_path: Path) -> LocalPods:
    return LocalPods(tmp_path / "pods")


@pytest.fixture
def cluster(pods: LocalPods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A fake whose pods execute commands, which KUBECONFIG names."""
    with fake_cluster(pods) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server


def job() -> list[Manifest]:
    return load_job("driver-1", 2, "homepage", pods_of(planned()), SETTING)


def test_the_drivers_of_the_mini_lab_are_as_before() -> None:
    """After a change on purpose: ``python -m tests.plugins.kubernetes.test_drivers`` writes the file."""
    assert golden() == GOLDEN.read_text()


def golden() -> str:
    return yaml.safe_dump_all(copy.deepcopy(job()), sort_keys=False, width=120, allow_unicode=True)


@pytest.mark.parametrize("size", ["mini", "default"])
def test_drivers_have_no_problem_beside_their_lab(size: str) -> None:
    layout = planned(size)
    lab = objects(layout, attended=True, routes={})

    assert problems([*lab, *load_job("driver-1", 2, "homepage", pods_of(layout), SETTING)]) == []


def test_drivers_may_reach_what_their_caller_does_and_nothing_beside_another_caller() -> None:
    layout = planned("default")
    made = load_job("driver-1", 2, "homepage", pods_of(layout), SETTING)

    egress = found(made, "NetworkPolicy", "allow-driver-1")["spec"]["egress"]
    reached = {
        (labels.get("lab.internal/pod") or labels["app.kubernetes.io/component"], port["port"])
        for rule in egress
        for labels in [rule["to"][0]["podSelector"]["matchLabels"]]
        for port in rule["ports"]
    }
    assert reached == {
        ("control-plane", 9000),
        ("central-envoy", 9000),
        ("gateway", 9000),
        ("gateway", 9080),
        ("model", 9000),
        ("model", 9080),
        ("homepage", 9001),
        ("homepage", 9002),
    }


def _spec(made: list[Manifest]) -> Any:
    return found(made, "Job", "driver-1")["spec"]


Break = Callable[[list[Manifest]], Any]


@pytest.mark.parametrize(
    ("breaks", "expected"),
    [
        pytest.param(lambda m: _spec(m).pop("completions"), "needs completions and parallelism", id="no completions"),
        pytest.param(lambda m: _spec(m).pop("completionMode"), "needs an indexed Job", id="not indexed"),
        pytest.param(
            lambda m: _spec(m)["template"]["spec"].update(restartPolicy="OnFailure"), "needs an indexed Job", id="again"
        ),
        pytest.param(
            lambda m: _spec(m)["template"]["spec"].pop("restartPolicy"), "need restartPolicy Never", id="always"
        ),
        pytest.param(lambda m: _spec(m).update(selector={}), "selector is set by the cluster", id="selector"),
    ],
)
def test_a_broken_job_is_noticed(breaks: Break, expected: str) -> None:
    made = job()

    breaks(made)

    noticed = problems([*objects(attended=True, routes={}), *made])
    assert [each for each in noticed if expected in each], noticed


# -- runs --------------------------------------------------------------------------------------------------------


def run_folder(folder: Path, address: str, seconds: float) -> tuple[Path, LoadPlan]:
    run = folder / "20260101T000000.000000Z"
    run.mkdir()
    plan = load_plan(run, address, arrivals=Constant(100, seconds), drivers=2)
    write_plan(load_plan(Path(), address, arrivals=plan.arrivals, drivers=2), run / PLAN_FILE)
    return run, plan


def judged(run: Path) -> tuple[Outcome, str]:
    names = [each.name for each in fields(Driver)]
    reports = [Driver(**{name: each[name] for name in names}) for each in read_json(run / "driver.json")["drivers"]]
    verdict = checker.check(make_evidence([], drivers=reports))
    assert verdict is not None
    return verdict.outcome, verdict.summary


async def test_drivers_in_pods_send_what_one_would(cluster: FakeServer, tmp_path: Path) -> None:
    runtime, _, _ = brought_up(configured(tmp_path))
    nodes: set[str] = set()

    def look(_: str) -> None:
        nodes.update(each["spec"]["nodeName"] for name, each in cluster.of("pods").items() if "driver-" in name)

    async with gated_server() as server:
        run, plan = run_folder(tmp_path, server.address, 1.0)
        status = await asyncio.to_thread(runtime.run_driver, run, "homepage", look)

    records = [record for number in range(2) for record in read_spool(plan.spool_of(number))]
    assert (status, judged(run)[0]) == (0, Outcome.VALID)
    assert sorted(record.sequence for record in records) == list(range(len(plan.schedule())))
    assert nodes == {"node-1", "node-2"}
    assert cluster.of("jobs") == {}
    assert [name for name in (*cluster.of("pods"), *cluster.of("networkpolicies")) if "driver-" in name] == []
    assert asked_beyond_its_role(cluster) == set()


async def test_a_pod_that_dies_makes_the_verdict_unknown_and_is_named(cluster: FakeServer, tmp_path: Path) -> None:
    runtime, _, _ = brought_up(configured(tmp_path))
    killed: list[str] = []

    def kill(line: str) -> None:
        if Progress.from_line(line).done and not killed:
            [pod] = [name for name in cluster.of("pods") if name.startswith("driver-") and "-1-" in name]
            killed.append(pod)
            cluster._delete(("pods", "lab-small", pod))

    async with gated_server() as server:
        run, plan = run_folder(tmp_path, server.address, 600.0)
        status = await asyncio.to_thread(runtime.run_driver, run, "homepage", kill)

    outcome, summary = judged(run)
    assert (status, outcome) == (1, Outcome.UNKNOWN)
    assert f"driver 2 of 2 in pod {killed[0]} on node-" in summary
    assert {record.sequence % 2 for record in read_spool(plan.spool_of(0))} == {0}
    assert not plan.spool_of(1).exists()
    assert cluster.of("jobs") == {}


async def test_all_drivers_of_a_run_are_killed_and_nothing_of_them_is_left(cluster: FakeServer, tmp_path: Path) -> None:
    runtime, _, _ = brought_up(configured(tmp_path))

    def kill(line: str) -> None:
        if Progress.from_line(line).done:
            runtime.kill_driver(run)

    async with gated_server() as server:
        run, _ = run_folder(tmp_path, server.address, 600.0)
        status = await asyncio.to_thread(runtime.run_driver, run, "homepage", kill)

    assert status == 1
    assert cluster.of("jobs") == {}
    assert [name for name in (*cluster.of("pods"), *cluster.of("networkpolicies")) if "driver-" in name] == []
    runtime.kill_driver(run)  # there need be none


def test_drivers_of_an_image_that_cannot_be_pulled_are_refused_and_nothing_is_left(
    cluster: FakeServer, pods: LocalPods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, _, _ = brought_up(configured(tmp_path))
    plain = pods.status
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}

    def status(pod: Manifest) -> Manifest:
        made = plain(pod)
        return made | {"containerStatuses": [{**each, **waiting} for each in made["containerStatuses"]]}

    monkeypatch.setattr(pods, "status", status)
    run, _ = run_folder(tmp_path, "127.0.0.1:1", 1.0)

    with pytest.raises(UnitError, match=r"^driver: ErrImagePull: no such image$"):
        runtime.run_driver(run, "homepage", lambda _: None)

    assert cluster.of("jobs") == {}


def test_drivers_reach_what_is_beside_a_caller_at_the_address_of_its_pod(cluster: FakeServer, tmp_path: Path) -> None:
    runtime, _, _ = brought_up(configured(tmp_path))
    plain = cluster.kubelet.status

    def status(pod: Manifest) -> Manifest:
        return plain(pod) | {"podIP": "10.1.2.3"}

    cluster.kubelet.status = status  # type: ignore[method-assign]  # a cluster of other addresses

    here = Endpoints({"sidecar": ("127.0.0.1:9002",), "gateway": ("gateway-replicas:9000",)})
    elsewhere = runtime.endpoints_of_drivers("homepage", here)

    assert elsewhere.by_role == {"sidecar": ("10.1.2.3:9002",), "gateway": ("gateway-replicas:9000",)}
    with pytest.raises(UnitError, match=r"^nobody has no pod that runs"):
        runtime.endpoints_of_drivers("nobody", here)


if __name__ == "__main__":
    GOLDEN.write_text(golden())
