"""The verdict on the console's frames: a busy machine puts a failure in doubt, and a slow load puts both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import psutil
import pytest

from lab.measure.findings import State
from lab.waiting import eventually
from tests.browser import installed
from tests.plugins.console.frames import Frames, Memory, verdict

GOOD = Frames(
    frames=1100,
    seconds=20.0,
    longest_gap_ms=60.0,
    server_cores=0.1,
    browser_cores=0.9,
    rate=500.0,
    answered_rate=495.0,
    edges=300,
)
BUSY = "this machine was busy"


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (GOOD, State.HOLDS),
        (replace(GOOD, doubt=BUSY), State.HOLDS),
        (replace(GOOD, frames=600), State.FAILS),  # not above 30
        (replace(GOOD, server_cores=0.2), State.FAILS),
        (replace(GOOD, server_cores=0.2, browser_cores=0.3), State.FAILS),  # the browser cannot excuse the server
        (replace(GOOD, frames=600, doubt=BUSY), State.UNDECIDED),
        (replace(GOOD, server_cores=0.2, doubt=BUSY), State.UNDECIDED),
        (replace(GOOD, frames=600, browser_cores=0.3), State.UNDECIDED),  # it was kept from the processor
        (replace(GOOD, answered_rate=449.0), State.UNDECIDED),
        (replace(GOOD, frames=600, answered_rate=449.0), State.UNDECIDED),
    ],
)
def test_a_verdict_is_only_given_for_what_was_measured(seen: Frames, expected: State) -> None:
    state, why = verdict(seen)
    assert state is expected
    assert bool(why) is (expected is State.UNDECIDED)


@pytest.mark.parametrize(
    ("last", "seconds", "why"),
    [
        (Memory(105.0, 21.0, 5_000), 1800.0, ""),
        (Memory(115.0, 20.0, 5_000), 1800.0, "memory grows: server_mb"),
        (Memory(100.0, 23.0, 5_000), 1800.0, "memory grows: tab_mb"),
        (Memory(100.0, 20.0, 5_600), 1800.0, "memory grows: nodes"),
        (Memory(200.0, 40.0, 9_000), 180.0, ""),  # all is filled for the first time
    ],
)
def test_memory_that_grows_fails_whatever_the_machine_does(last: Memory, seconds: float, why: str) -> None:
    memory = [Memory(60.0, 10.0, 900)] * 10 + [Memory(100.0, 20.0, 5_000)] * 10 + [last] * 10
    found = verdict(replace(GOOD, frames=round(55 * seconds), seconds=seconds, memory=memory, doubt=BUSY))

    assert found == ((State.FAILS, why) if why else (State.HOLDS, ""))


def test_ctrl_c_ends_it_in_one_line_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    installed()
    folder = tmp_path_factory.mktemp("h")  # sockets must not have long paths

    def started() -> list[int]:
        return [each.pid for each in psutil.process_iter(["environ"]) if str(folder) in str(each.info["environ"])]

    command = [sys.executable, "-m", "tests.plugins.console.frames", "--name", "frames-ended"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True) as tool:
        assert tool.stderr is not None
        next(line for line in tool.stderr if line.startswith("warming up"))  # lab, console and browser are up
        os.killpg(tool.pid, signal.SIGINT)  # as a terminal does
        try:
            _, said = tool.communicate(timeout=60)
        finally:
            tool.kill()  # else the end of this block would wait for it

    assert (tool.returncode, said) == (130, "interrupted\n")
    eventually("all has ended", started, within=timedelta(seconds=10), until=lambda found: not found)
    assert not list(folder.iterdir())
