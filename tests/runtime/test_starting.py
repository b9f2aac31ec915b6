"""Python units that start together are forked from one process, and are what they would be if started one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from lab import PYTHON
from lab.lab import Lab
from lab.roles import MODEL, Port, Unit
from lab.runtime.process import ProcessRuntime
from lab.waiting import eventually
from tests.labs import lab_up, processes_of, write_spec

WITHIN = timedelta(seconds=30)
MODULES = {
    "caller": "services.caller",
    "gateway": "services.gateway",
    "model": "models.stub",
    "resolver": "services.resolver",
}


@pytest.fixture(scope="module")
def just_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab none of whose units has started alone."""
    home = tmp_path_factory.mktemp("just-up")
    with lab_up(home, spec=write_spec(home)) as lab:
        yield lab


@pytest.fixture
def runtime(own_lab: Lab) -> Iterator[ProcessRuntime]:
    own_lab.folder.mkdir(parents=True)
    runtime = ProcessRuntime(own_lab.folder, "plaintext")
    yield runtime
    runtime.sweep()


def test_forked_units_look_to_the_system_like_others(just_up: Lab) -> None:
    units = just_up.status().units
    forked = [unit for unit in units if unit.role in MODULES]

    assert len(forked) == len(MODULES)
    for unit in forked:
        assert unit.pid is not None
        process = psutil.Process(unit.pid)
        assert os.getsid(unit.pid) == unit.pid
        assert process.cmdline()[:4] == [*PYTHON, "-m", MODULES[unit.role]]
        assert unit.address in process.cmdline()
        assert process.environ()["LAB_UNIT"] == f"{just_up.folder}:{unit.name}"
        files = [Path(f"/proc/{unit.pid}/fd/{number}").readlink() for number in range(3)]
        log = just_up.folder / "units" / unit.name / "log"
        assert files == [Path(os.devnull), log, log]
    assert {process.pid for process in processes_of(just_up)} == {unit.pid for unit in units}


def test_units_that_start_together_share_what_they_have_imported(just_up: Lab) -> None:
    shared_kb = {}
    for unit in just_up.status().units:
        text = Path(f"/proc/{unit.pid}/smaps_rollup").read_text()
        shared_kb[unit.role] = int(re.findall(r"^Shared_Dirty: +(\d+) kB", text, re.MULTILINE)[0])

    assert min(shared_kb[role] for role in MODULES) > 1_000
    assert shared_kb["control-plane"] < 1_000


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("models.stub", "the following arguments are required"),
        ("models.no_such_unit", "No module named models.no_such_unit"),
    ],
)
def test_each_unit_that_cannot_start_says_why_in_its_own_log(runtime: ProcessRuntime, module: str, words: str) -> None:
    nowhere = Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1")
    units = [Unit(name, MODEL, ("python", "-m", module), nowhere) for name in ("a", "b", "with-a-longer-name")]

    running = dict(runtime.start(units))

    for unit in units:
        eventually(
            f"{unit.name} says why it ends",
            runtime.log(unit.name).read_text,
            within=WITHIN,
            until=lambda text: text.count(words) == 1,
        )
    eventually(
        "all have ended", lambda: runtime.states(running), within=WITHIN, until=lambda it: {*it.values()} == {"exited"}
    )
