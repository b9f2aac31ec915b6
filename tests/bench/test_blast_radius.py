from __future__ import annotations

import pytest

from lab.bench.harness.bench_faults import HARMS
from lab.bench.harness.environment import setting
from lab.bench.suites import blast_radius
from lab.errors import InputError
from lab.lab import DEFAULT_SPEC
from lab.report import read_runs, render
from lab.runs import runs_in

TOPOLOGIES = ["gateway", "mesh"]


def test_a_part_is_on_the_path_of_those_who_pass_through_it() -> None:
    on_path = {name: [each for each in TOPOLOGIES if harm.is_on_path(each)] for name, harm in HARMS.items()}
    assert {
        "gateway-killed": ["gateway"],
        "gateways-killed": ["gateway"],
        "central-envoy-killed": [],
        "sidecar-killed": ["mesh"],
        "resolver-killed": ["mesh"],
        "control-plane-killed": [],
        "replica-killed": TOPOLOGIES,
        "replica-paused": TOPOLOGIES,
        "cluster-killed": TOPOLOGIES,
    } == on_path


@pytest.mark.timeout(240)
def test_the_bench_shows_whom_a_death_reaches(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    only = {"topologies": TOPOLOGIES, "faults": ["gateways-killed", "sidecar-killed", "control-plane-killed"]}
    said: list[str] = []
    with setting(said.append, DEFAULT_SPEC, only) as lab:
        found = blast_radius.run(lab, 1)
        with pytest.raises(InputError, match="--faults: 'flood' is not known"):
            blast_radius.run(type(lab)(lab.lab, lab.state, lab.say, {"faults": ["flood"]}), 1)

    assert "round 1 of 1, fault 3 of 3: " in " ".join(said)
    (table,) = found.tables
    rows = {tuple(row[:2]): row for row in table.written()}
    how = table.columns.index("how")
    # A busy machine is slow, whoever is killed; failures have no other cause.
    failed = {place: row[2] for place, row in rows.items() if "failed" in row[how]}
    assert {("all gateways killed", "gateway"): "5 of 5", ("one sidecar killed", "mesh"): "1 of 5"} == failed
    assert 6 == len(rows)
    assert {"all gateways killed", "one sidecar killed", "control plane killed"} == {fault for fault, _ in rows}
    assert [(each.text, str(each.state)) for each in found.claims[:2]] == [
        ("callers hit, of 5, all gateways killed, gateway", "holds"),
        ("callers hit, of 5, one sidecar killed, mesh", "holds"),
    ]
    evidence = next(note for note in found.notes if note.startswith("evidence: ")).removeprefix("evidence: ")
    folder = next(tmp_path.glob("runs/*/latest")).resolve()
    assert evidence == str(folder)
    assert "gateway-1, gateway-2 killed" in render(read_runs(runs_in(folder)))


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (["topologies", "--faults", "sidecar-killed"], "is for bench blast-radius alone"),
        (["blast-radius", "--faults", "flood"], "--faults: 'flood' is not known; there are gateway-killed"),
        (["blast-radius", "--topologies", "mesh,loop"], "--topologies: 'loop' is not known; there are direct"),
    ],
)
def test_a_mistake_is_one_line(run_lab, options: list[str], remedy: str) -> None:
    told = run_lab(None, "bench", *options)

    assert 1 == told.returncode
    assert remedy in told.stderr
    assert 1 == len(told.stderr.strip().splitlines())
