"""A lab that a notebook has brought up ends with its kernel, however that ends, and belongs to one kernel at a time."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager
from markupsafe import Markup

from lab.errors import LabError
from lab.lab import Lab
from lab.ops.reaper import Reaper
from lab.plugins.workshop import Figure, WorkshopLab, slider
from lab.plugins.workshop.slider import Pending
from lab.waiting import eventually
from tests.notebooks.processes import await_nothing_left, processes_of

TIMEOUT_S = 60.0


@contextmanager
def kernel() -> Iterator[tuple[KernelManager, BlockingKernelClient]]:
    manager = KernelManager()
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    client = manager.client()
    try:
        client.start_channels()
        client.wait_for_ready(timeout=TIMEOUT_S)
        yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def bringing_up(spec: Path) -> str:
    return (
        "from pathlib import Path\n"
        "from lab.plugins.workshop import WorkshopLab\n"
        "lab = WorkshopLab()\n"
        f"lab.up(spec=Path({str(spec)!r}))\n"
    )


def bring_up(client: BlockingKernelClient, spec: Path) -> None:
    reply = client.execute(bringing_up(spec), reply=True, timeout=TIMEOUT_S)
    assert reply["content"]["status"] == "ok", reply["content"]


def test_a_killed_kernel_leaves_nothing(lab: Lab, mini_spec: Path) -> None:
    with kernel() as (manager, client):
        bring_up(client, mini_spec)
        assert {unit.state for unit in lab.status().units} == {"running"}
        manager.shutdown_kernel(now=True)  # SIGKILL, to all its group

        await_nothing_left(lab)


def test_an_interrupted_cell_leaves_the_lab_up_and_the_kernel_takes_it_along(lab: Lab, mini_spec: Path) -> None:
    with kernel() as (manager, client):
        bring_up(client, mini_spec)
        load = (
            "from lab.runs import LoadOptions; lab.load(LoadOptions(topology='mesh', caller='homepage', duration_s=60))"
        )
        asked = client.execute(load)
        eventually(
            "the driver is there",
            lambda: [each for each in processes_of(lab) if "lab.load.driver" in each],
            within=timedelta(seconds=20),
        )
        manager.interrupt_kernel()

        reply = client.get_shell_msg(timeout=TIMEOUT_S)
        assert asked == reply["parent_header"]["msg_id"]
        assert {unit.state for unit in lab.status().units} == {"running"}
        assert not [each for each in processes_of(lab) if "lab.load.driver" in each]
        manager.shutdown_kernel()

        await_nothing_left(lab)


def test_a_kernel_killed_while_the_lab_comes_up_leaves_nothing(lab: Lab, mini_spec: Path) -> None:
    with kernel() as (manager, client):
        client.execute(bringing_up(mini_spec))
        eventually(
            "a unit is there",
            lambda: [each for each in processes_of(lab) if "models.stub" in each],
            within=timedelta(seconds=20),
        )
        manager.shutdown_kernel(now=True)

        await_nothing_left(lab)


def test_a_lab_belongs_to_one_kernel_at_a_time_and_the_next_waits_until_it_is_gone(lab: Lab, mini_spec: Path) -> None:
    with kernel() as (manager, client):
        bring_up(client, mini_spec)
        with pytest.raises(LabError, match="belongs to another notebook"):
            WorkshopLab(lab.name).up(spec=mini_spec)
        manager.shutdown_kernel(now=True)

        mine = WorkshopLab(lab.name)
        mine.up(spec=mini_spec)
        assert {unit.state for unit in mine.status().units} == {"running"}
        assert mine.down() > 0


def test_who_brings_a_lab_up_again_keeps_it(lab: Lab, mini_spec: Path) -> None:
    mine = WorkshopLab(lab.name)
    mine.up(spec=mini_spec)
    before = {unit.name: unit.pid for unit in lab.status().units}
    mine = WorkshopLab(lab.name)
    mine.up(spec=mini_spec)

    assert {unit.name: unit.pid for unit in lab.status().units} == before
    assert len(before) == mine.down()
    assert mine.down() == 0


def test_a_guard_that_is_dismissed_lets_the_lab_be(lab: Lab, mini_spec: Path) -> None:
    reaper = Reaper(lab.name, lab.folder.parent.parent)
    lab.up(spec=mini_spec)
    reaper.dismiss()
    reaper.dismiss()

    assert {unit.state for unit in lab.status().units} == {"running"}


def test_a_guard_keeps_its_post_when_somebody_presses_ctrl_c(lab: Lab) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lab.ops.reaper", lab.name, str(lab.folder.parent.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as guard:
        assert guard.stdout is not None
        assert guard.stdout.readline() == "ready\n"
        os.kill(guard.pid, 2)
        assert guard.poll() is None
        guard.communicate("dismissed")
    assert guard.returncode == 0


def test_a_dial_draws_anew_where_it_stops(lab: Lab) -> None:
    del lab  # for its environment
    with kernel() as (_, client):
        shown: list[str] = []

        def keep(message: dict[str, Any]) -> None:
            if message["msg_type"] in ("display_data", "update_display_data"):
                shown.append(message["content"]["data"]["text/plain"])

        shows = "from lab.plugins.workshop import slider, Figure\n"
        shows += "slider('n', [1, 2, 3], lambda n: Figure(str(n), ''), at=2)"
        finds = "from ipywidgets.widgets.widget import _instances as all_widgets"
        moves = "next(each for each in all_widgets.values() if hasattr(each, 'options')).value = 3"
        for code in (shows, f"{finds}; {moves}"):
            reply = client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=keep)
            assert reply["content"]["status"] == "ok", reply["content"]

        assert shown[0].startswith("SelectionSlider")
        assert shown[1:] == ["[measuring n: 2 …]", "[2]", "[measuring n: 3 …]", "[3]"]


def test_while_a_dial_measures_the_previous_picture_is_faded() -> None:
    text = Pending("n: 3", Figure("the last one", Markup("")))._repr_html_()

    assert 'role="status"' in text
    assert "measuring n: 3 …" in text
    assert "the last one" in text.partition("opacity")[2]


def test_grpc_writes_no_line_when_a_process_with_calls_in_flight_forks() -> None:
    script = """
import os, threading, lab, grpc
ask = grpc.insecure_channel("127.0.0.1:1").unary_unary("/a/b")
call = threading.Thread(target=lambda: ask.future(b"", timeout=1, wait_for_ready=True).exception())
call.start()
while call.is_alive():
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)

    assert done.stderr == ""


def test_a_dial_without_widgets_draws_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del lab
    monkeypatch.setitem(sys.modules, "ipywidgets", None)

    slider("n", [1, 2], lambda n: Figure(str(n), Markup("")), at=2)

    assert capsys.readouterr().out == "[2]\n"
