"""The talk on a lab: eight acts from judged records, pauses, an interrupt, and the console's button."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from lab.lab import Lab
from lab.plugins.console import PLAY, Watcher
from lab.runs import judge
from lab.runtime.state import LabState
from lab.waiting import eventually
from tests.browser import await_true, chromium
from tests.lab_command import json_of, run_lab, start_lab
from tests.labs import lab_up
from tests.plugins.console.builders import serving
from tests.plugins.console.test_browser import open_page

SOON = timedelta(seconds=60)
TOPOLOGIES = ("direct", "gateway", "mesh")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab_up(tmp_path_factory.mktemp("play"), topologies=TOPOLOGIES) as lab:
        yield lab


@pytest.mark.timeout(400)
def test_all_acts_play_on_a_lab_of_their_own_and_again_without_one(own_lab: Lab) -> None:
    done = run_lab(own_lab, "play", "--json", within_s=380)
    played = json.loads(done.stdout)

    # How long things take is not a test's business; on a busy machine that act may say that it did not show it.
    not_shown = {act["name"]: act for act in played["acts"] if not act["shown"]}
    assert done.returncode == (1 if not_shown else 0)
    not_shown.pop("payloads", None)
    assert not not_shown, json.dumps(not_shown)
    assert len(played["acts"]) == 8
    figures = {act["name"]: act["figure"] for act in played["acts"]}
    assert figures["gateway"] == "blast radius: 5 of 5 callers"
    assert figures["sidecar"] == "blast radius: 1 of 5 callers"
    assert LabState.load(own_lab.folder / "state.json") is None

    for act in played["acts"]:
        if act["name"] != "scale":
            assert act["runs"], act["name"]
            for run in act["runs"]:  # the evidence is there, and sealed
                assert judge(own_lab.runs.parent.parent / run).counts.sent
    again = json_of(run_lab(own_lab, "play", "--replay", played["recording"], "--json"))
    assert again["acts"] == played["acts"]


@pytest.mark.parametrize(
    ("act", "doing"), [("gateway", "killing gateway"), ("move", "is in force"), ("neighbour", "five times its limit")]
)
def test_ctrl_c_heals_what_it_injected_and_restores_the_table(lab: Lab, act: str, doing: str) -> None:
    before = lab.routes.show().document
    program = start_lab(lab, "play", "--acts", act)
    assert program.stderr is not None
    assert any(doing in line for line in program.stderr)
    program.send_signal(signal.SIGINT)
    program.communicate(timeout=90)

    assert program.returncode == 130
    assert [fault.id for fault in lab.faults.active()] == []
    assert {unit.state for unit in lab.status().units} == {"running"}
    assert lab.routes.show().document == before
    assert json.loads((lab.folder / PLAY).read_text())["state"] == "stopped"


def test_a_fault_in_force_and_a_topology_that_is_not_there_are_said_at_once(lab: Lab, mini_lab: Lab) -> None:
    with lab.faults.injected("slow", "ml-cluster-1"):
        refused = run_lab(lab, "play", "--acts", "gateway")
    assert refused.returncode == 1
    assert "slow-" in refused.stderr.splitlines()[-1]
    assert "lab fault heal" in refused.stderr.splitlines()[-1]

    played = json_of(run_lab(mini_lab, "play", "--acts", "move", "--json"), statuses=(1,))
    assert played["acts"][0]["doubt"] == "this lab has no topology direct"


def test_a_key_pauses_until_the_next_and_leaves_the_terminal_as_it_was(tmp_path: Path) -> None:
    script = tmp_path / "keys.py"
    script.write_text(
        "from threading import Event, active_count\n"
        "from lab.plugins.play.keys import Keys\n"
        "pressed = Event()\n"
        "with Keys(lambda paused: (print('paused' if paused else 'on', flush=True), pressed.set())) as keys:\n"
        "    print('ready', flush=True)\n"
        "    pressed.wait()\n"
        "    keys.wait(0)\n"
        "    keys.wait(0.1)\n"  # it listens again when the play ends
        "print('ended', active_count(), flush=True)\n"
        "input()\n"  # what is written to a terminal that closes may be lost
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(script)])  # noqa: S606 (this Python, and a file made here)
    read = ""

    def until(words: str) -> None:
        nonlocal read
        give_up = time.monotonic() + 30
        while words not in read:
            assert select.select([terminal], [], [], give_up - time.monotonic())[0], read
            read += os.read(terminal, 1_000).decode()

    until("ready")
    os.write(terminal, b"x \r")
    os.write(terminal, b" ")
    until("paused")
    os.write(terminal, b"\r")
    until("ended 1")  # the next key is for the shell
    os.write(terminal, b"\n")
    assert os.waitpid(pid, 0)[1] == 0
    os.close(terminal)


def test_nobody_can_pause_what_reads_a_file() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from lab.plugins.play.keys import Keys\nwith Keys(print) as k: k.wait(100); print(k.listening)",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "False\n"


@pytest.mark.timeout(240)
def test_the_page_plays_pauses_goes_on_and_stops(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = lab.routes.show().document
    watcher = Watcher(lab)
    watcher.start()
    request.addfinalizer(watcher.stop)
    with serving(watcher.board, lab, watcher) as console, chromium() as page:
        console.write_door(tmp_path / "door.html")
        open_page(page, (tmp_path / "door.html").as_uri())
        await_true(page, "!document.querySelector('#talk-start').hidden")
        page.evaluate("document.querySelector('#talk-start').click()")
        await_true(page, "document.querySelector('#talk-title').textContent === '1. Name the use case'")
        await_true(page, "!document.querySelector('#talk-pause').hidden")
        page.evaluate("document.querySelector('#talk-pause').click()")
        await_true(page, "document.querySelector('#talk-state').textContent === 'paused before the next act'")
        await_true(page, "document.querySelector('#talk-figure').textContent.startsWith('1 name, ')")
        assert page.evaluate("document.querySelector('#talk-pause').textContent") == "Go on"
        assert page.violations("minor", "moderate", "serious", "critical") == []
        page.keep_picture("play")
        page.evaluate("document.querySelector('#talk-pause').click()")
        await_true(page, "document.querySelector('#talk-title').textContent === '2. Move a model'")
        page.evaluate("document.querySelector('#talk-stop').click()")
        await_true(page, "document.querySelector('#talk-state').textContent === 'the play is over: stopped'")
        await_true(page, "!document.querySelector('#talk-start').hidden")
        assert page.complaints == []
    assert [fault.id for fault in lab.faults.active()] == []
    eventually("the table is as before", lambda: lab.routes.show().document == before, within=SOON)
