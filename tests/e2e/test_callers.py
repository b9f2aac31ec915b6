"""Callers have a topology of their own, which is changed while they send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import InputError, LabError, SpecError
from lab.lab import Lab
from lab.runs import LoadOptions, runs_in
from lab.runs.folder import RunFolder
from lab.spec import read_spec
from tests.lab_command import json_of, run_lab


@pytest.fixture
def lab(small_lab: Lab) -> Iterator[Lab]:
    """All callers use the first topology afterwards."""
    yield small_lab
    small_lab.callers.use("gateway", [])


def test_callers_are_listed_and_moved(lab: Lab) -> None:
    used = json_of(run_lab(lab, "callers", "list", "--json"))
    assert set(used.values()) == {"gateway"}, "the first topology of the spec"
    first, *others = used

    assert json_of(run_lab(lab, "callers", "use", "mesh", first, "--json")) == {**used, first: "mesh"}
    assert lab.callers.show() == {**used, first: "mesh"}
    assert set(lab.callers.use("mesh", []).values()) == {"mesh"}, "all"
    for callers, topology, problem in (
        ([first, "nobody"], "gateway", "caller 'nobody' is not in this lab"),
        ([first], "direct", "topology 'direct' is not up; there are gateway, mesh"),
        ([first], "mash", "did you mean 'mesh'"),
    ):
        with pytest.raises(InputError, match=problem):
            lab.callers.use(topology, callers)
    assert set(lab.callers.show().values()) == {"mesh"}, "a refused move moves nobody"

    (lab.folder / "callers.json").write_text("[1]")
    with pytest.raises(LabError, match=r"callers.json: damaged .* remove it"):
        lab.callers.show()
    (lab.folder / "callers.json").unlink()
    assert lab.callers.show() == used
    assert others or first


def test_each_caller_is_driven_by_its_own(lab: Lab) -> None:
    callers = list(lab.callers.show())
    lab.callers.use("mesh", callers[:1])
    options = [LoadOptions(topology="", caller=each, rate=20, duration_s=2) for each in callers]

    driven = lab.load_mixture(options)

    assert {run.folder.name for run in driven.runs} == {f"{lab.callers.show()[each]}-{each}" for each in callers}
    for run in driven.runs:
        plan = RunFolder(run.folder).plan
        assert run.folder.name == f"{plan.topology}-{plan.caller}"
        assert (run.counts.failed, run.counts.wrong, run.counts.right > 0) == (0, 0, True)
    assert {each.name for each in runs_in(driven.folder)} == {run.folder.name for run in driven.runs}


def test_a_topology_that_the_lab_has_not_is_refused_with_its_caller(tmp_path: Path) -> None:
    spec = tmp_path / "lab.toml"
    spec.write_text(f'topologies = {json.dumps(["gateway"])}\n[callers.homepage]\ntopology = "mesh"\n')
    with pytest.raises(SpecError, match="homepage uses mesh, which is not among the topologies; use one of g"):
        read_spec(spec)
