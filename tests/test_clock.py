"""The clock of a lab, which steps of the wall clock do not move."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab import clock
from lab.lab import DEFAULT_SPEC
from lab.ops import bringup
from lab.roles import Plan, plan
from lab.routing.document import read_path
from lab.runtime.compose import engine
from lab.runtime.compose.__main__ import fixed_site
from lab.runtime.state import STATE_FILE, LabState, clock_of
from lab.spec import override, read_spec
from tests.missing import missing

HOUR_NS = 3_600_000_000_000
BOOT, OTHER = "0" * 36, "1" * 36


class Clocks:
    """The clocks of a kernel, as a test sets them."""

    def __init__(self) -> None:
        self.wall_ns, self.monotonic_ns, self.boot = 1_700_000_000_000_000_000, 5_000, BOOT

    def pass_ns(self, elapsed_ns: int) -> None:
        self.wall_ns += elapsed_ns
        self.monotonic_ns += elapsed_ns


@pytest.fixture(name="clocks")
def fake_clocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocks]:
    before, clocks = os.environ.get(clock.VARIABLE), Clocks()
    with monkeypatch.context() as patch:
        patch.setattr(clock, "time_ns", lambda: clocks.wall_ns)
        patch.setattr(clock, "monotonic_ns", lambda: clocks.monotonic_ns)
        patch.setattr(clock, "_boot", lambda: clocks.boot)
        clock.follow("")
        yield clocks
    clock.follow(before or "")
    if before is None:
        del os.environ[clock.VARIABLE]


@pytest.mark.parametrize("step_ns", [HOUR_NS, -HOUR_NS])
def test_lab_time_passes_as_time_does_however_the_wall_clock_is_set(clocks: Clocks, step_ns: int) -> None:
    clock.follow(clock.fixed())
    began_ns, offset_ns = clock.lab_time_ns(), clock.offset_ns()
    assert began_ns == clocks.wall_ns
    clocks.wall_ns += step_ns
    clocks.pass_ns(7)
    assert clock.is_fixed()
    assert clock.lab_time_ns() == began_ns + 7
    assert clock.offset_ns() == offset_ns
    assert clock.lab_time_of(clocks.wall_ns) == began_ns + 7


def test_a_unit_that_starts_after_a_step_has_the_same_time(clocks: Clocks) -> None:
    fixed = clock.fixed()
    clock.follow(fixed)
    before_ns = clock.lab_time_ns()
    clocks.wall_ns -= HOUR_NS
    clock.follow("")
    clock.follow(os.environ[clock.VARIABLE] or fixed)
    assert clock.lab_time_ns() == before_ns


@pytest.mark.parametrize("given", ["", f"{OTHER} 12"])
def test_without_a_clock_of_this_boot_lab_time_is_the_wall_clock(clocks: Clocks, given: str) -> None:
    clock.follow(given)
    clocks.wall_ns += HOUR_NS
    assert not clock.is_fixed()
    assert clock.lab_time_ns() == clocks.wall_ns
    assert clock.offset_ns() == clocks.wall_ns - clocks.monotonic_ns
    assert os.environ[clock.VARIABLE] == given


def test_a_kernel_without_a_boot_id_fixes_no_clock(clocks: Clocks) -> None:
    clocks.boot = ""
    assert clock.fixed() == ""
    assert not clock.is_of_this_boot("")


def test_a_process_follows_the_clock_of_its_environment() -> None:
    fixed = clock.fixed()
    if not fixed:
        missing("this kernel has no boot id")
    boot, _, offset_ns = fixed.partition(" ")
    ahead = f"{boot} {int(offset_ns) + HOUR_NS}"
    code = "import time; from lab import clock; print(clock.lab_time_ns() - time.time_ns())"
    done = subprocess.run(
        (sys.executable, "-c", code),
        env={**os.environ, clock.VARIABLE: ahead},
        capture_output=True,
        text=True,
        check=True,
    )
    assert abs(int(done.stdout) - HOUR_NS) < HOUR_NS / 10


def test_a_command_follows_the_clock_of_the_lab_that_it_works_with(clocks: Clocks, tmp_path: Path) -> None:
    fixed = clock.fixed()
    spec = override(read_spec(DEFAULT_SPEC), security="plaintext").model_copy(update={"clock": fixed})
    LabState("process", "lab.toml", spec, Plan((), {}, {})).save(tmp_path / STATE_FILE)
    clock.follow("")
    clocks.wall_ns += HOUR_NS
    assert LabState.load(tmp_path / STATE_FILE)
    assert clock.lab_time_ns() == clocks.wall_ns - HOUR_NS


def test_labs_that_are_up_together_have_one_clock(clocks: Clocks, tmp_path: Path) -> None:
    first = bringup._clock(tmp_path / "first")
    assert first == clock.fixed()
    clocks.wall_ns += HOUR_NS
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / STATE_FILE).write_text(json.dumps({"spec": {"clock": first}}))
    assert bringup._clock(tmp_path / "second") == first
    clocks.boot = OTHER
    assert bringup._clock(tmp_path / "second") == clock.fixed() != first


@pytest.mark.parametrize("given", ["", f"{BOOT} 12"])
def test_services_and_drivers_get_the_labs_clock(given: str) -> None:
    spec = override(read_spec(DEFAULT_SPEC)).model_copy(update={"clock": given})
    layout = plan(spec, read_path(spec.routes), fixed_site())
    for unit in layout.units:
        its = unit.environment.get(clock.VARIABLE, "")
        assert its == (given if unit.argv[0] == "python" else "")


@pytest.mark.parametrize(
    ("host", "kernel", "is_this"),
    [
        ("unix:///run/docker.sock", os.uname().release, True),
        ("unix:///run/docker.sock", "6.6.0-linuxkit", False),
        ("tcp://10.0.0.1:2375", os.uname().release, False),
    ],
)
def test_an_engines_kernel_is_this_ones_only_on_this_machine(
    host: str, kernel: str, *, is_this: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    client: Any = SimpleNamespace(info=lambda: {"KernelVersion": kernel})
    assert engine.is_of_this_kernel(client) == is_this


@pytest.mark.parametrize(
    ("state", "found"),
    [('{"spec": {"clock": "c 1"}}', "c 1"), ('{"spec": {}}', ""), ("{", ""), ('{"spec": []}', ""), (None, "")],
)
def test_the_clock_of_another_lab_is_read_from_its_state(tmp_path: Path, state: str | None, found: str) -> None:
    file = tmp_path / "state.json"
    if state is not None:
        file.write_text(state)
    assert clock_of(file) == found
