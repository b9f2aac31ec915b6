from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast
from unittest.mock import MagicMock

import pytest

from lab.errors import DeadlineError
from lab.plugins.bench.harness import fault_runner
from lab.plugins.bench.harness.environment import Environment
from lab.plugins.bench.harness.fault_runner import bench_faults
from lab.plugins.bench.suites import blast_radius
from lab.report import read_runs, render
from lab.runs import runs_in
from lab.runtime.placement import spread
from lab.runtime.state import LabState
from tests.lab_command import run_lab
from tests.proxies import GATEWAYS
from tests.runtime.test_placement import planned

TOPOLOGIES = ["gateway", "mesh"]


def test_a_unit_is_in_the_path_of_topologies_through_its_role() -> None:
    faults = bench_faults()
    assert {name: [each for each in TOPOLOGIES if fault.is_in_path(each)] for name, fault in faults.items()} == {
        "gateway-killed": ["gateway"],
        "gateways-killed": ["gateway"],
        "central-envoy-killed": [],
        **{f"{role}-killed": [] for role in GATEWAYS.values()},
        **{f"{unit}-killed": [] for unit in ("picker", "body-envoy", "picking-envoy", "strict-envoy")},
        **{
            f"{name}{many}-killed": []
            for name in ("smg", "smg-neutral", "vllm-router", "vllm-router-neutral")
            for many in ("", "s")
        },
        **{f"{role}-killed": [] for role in ("replica-signals", "picker-sidecar")},
        "vip-killed": [],
        "vips-killed": [],
        "sidecar-killed": ["mesh"],
        "resolver-killed": ["mesh"],
        "control-plane-killed": [],
        "replica-killed": TOPOLOGIES,
        "replica-paused": TOPOLOGIES,
        "cluster-killed": TOPOLOGIES,
        "node-lost": TOPOLOGIES,
    }


def test_a_lost_node_is_the_callers_with_everything_else_on_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    layout = planned(tmp_path)
    monkeypatch.setattr(LabState, "of", lambda _: MagicMock(plan=layout))
    fault, lab = bench_faults()["node-lost"], MagicMock()

    victims = fault.victims(layout)
    fault.inject(lab, victims)

    assert {"homepage", "homepage-sidecar", "homepage-resolver"} < set(victims) < {unit.name for unit in layout.units}
    [node] = [name for name, units in spread(layout, 3).items() if units == victims]
    lab.faults.inject.assert_called_once_with("node-loss", node, nodes=3)


@dataclass(frozen=True)
class Injected:
    name: str = ""
    noticed_ns: int | None = None


def test_a_fault_that_fails_does_not_lose_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(watched: fault_runner._WatchedLab, fault: fault_runner.BenchFault) -> None:
        watched.injected.append((fault, 7))
        if fault.name == "sidecar-killed":
            raise DeadlineError("not all nodes are back")

    def load(options: list[object], *, progress: Callable[[object], None], **_: object) -> MagicMock:
        progress({number: MagicMock(ok=1, failed=0, in_flight=0) for number in range(len(options))})
        return MagicMock(runs=[])

    runs = MagicMock(faults=[Injected()] * 4, radii=list)
    monkeypatch.setattr(fault_runner._WatchedLab, "carry_out", carry_out)
    monkeypatch.setattr(fault_runner, "AdminClient", MagicMock())
    monkeypatch.setattr(fault_runner, "parallel_runs", lambda _: runs)
    monkeypatch.setattr(fault_runner, "STEADY_S", 0)
    environment = MagicMock(interrupted=False, missing=[])
    environment.state.plan.callers = {"homepage": None}
    environment.lab.load_parallel = load
    faults = [bench_faults()[name] for name in ("gateways-killed", "sidecar-killed")]

    _, seen = fault_runner.run_faults(environment, faults, TOPOLOGIES, 2)

    assert sorted(each.name for each in cast("list[Injected]", seen)) == sorted([each.name for each in faults] * 2)
    assert environment.missing == [f"round {number}, one sidecar killed: not all nodes are back" for number in (1, 2)]


@pytest.mark.timeout(240)
def test_the_bench_shows_which_callers_a_fault_reaches(
    monkeypatch: pytest.MonkeyPatch, environment: Environment
) -> None:
    for name in ("STEADY_S", "AFTER_S"):
        monkeypatch.setattr(fault_runner, name, 1.0)
    faults = ["gateways-killed", "sidecar-killed", "control-plane-killed"]
    said: list[str] = []
    found = blast_radius.run(replace(environment, say=said.append), 1, topologies=TOPOLOGIES, faults=faults)

    assert "round 1 of 1, fault 3 of 3: " in " ".join(said)
    (table,) = found.tables
    rows = {tuple(row[:2]): row for row in table.written()}
    how = table.columns.index("how")
    # A busy machine is slow, whoever is killed; failures have no other cause.
    failed = {place: row[2] for place, row in rows.items() if "failed" in row[how]}
    assert failed == {("all gateways killed", "gateway"): "5 of 5", ("one sidecar killed", "mesh"): "1 of 5"}
    assert len(rows) == 6
    assert {fault for fault, _ in rows} == {"all gateways killed", "one sidecar killed", "control plane killed"}
    assert [(each.text, str(each.state)) for each in found.claims[:2]] == [
        ("callers hit, of 5, all gateways killed, gateway", "holds"),
        ("callers hit, of 5, one sidecar killed, mesh", "holds"),
    ]
    evidence = next(note for note in found.notes if note.startswith("evidence: ")).removeprefix("evidence: ")
    folder = (environment.lab.runs / "latest").resolve()
    assert evidence == str(folder)
    assert "gateway-1, gateway-2 killed" in render(read_runs(runs_in(folder)))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["topologies", "--faults", "sidecar-killed"], "--faults: bench topologies has no such option; only blast-rad"),
        (
            ["driver", "--topologies", "mesh"],
            "--topologies: bench driver has no such option; only blast-radius, cap",
        ),
        (["blast-radius", "--faults", "flood"], "--faults: 'flood' is not known; there are gateway-killed"),
        (["blast-radius", "--topologies", "mesh,loop"], "--topologies: 'loop' is not known; there are direct"),
    ],
)
def test_a_mistake_is_one_line(options: list[str], remedy: str) -> None:
    done = run_lab(None, "bench", *options)

    assert done.returncode == 1
    assert remedy in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
