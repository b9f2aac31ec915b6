from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.runtime import lock
from lab.runtime.lock import exclusive

WORKERS, TURNS = 4, 20
HOLDER = """
import sys, time
from pathlib import Path
from lab.runtime.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a lock that will not be released."""
    monkeypatch.setattr(lock, "_PATIENCE", timedelta(milliseconds=100))


@pytest.mark.usefixtures("impatient")
def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path / "mine"), pytest.raises(LabError, match="lab mine is being brought up or down"):
        exclusive(tmp_path / "mine").__enter__()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("home", ["/proc", "/sys/lab", "/dev/null"])
def test_a_home_that_cannot_be_written_is_named(home: str) -> None:
    with pytest.raises(LabError, match=rf"^{home}.*; set LAB_HOME to a folder that you can write$"):
        exclusive(Path(home) / ".lab" / "mine").__enter__()


def test_it_leaves_no_lock_and_no_empty_folder(tmp_path: Path) -> None:
    folder = tmp_path / ".lab" / "mine"
    with exclusive(folder):
        (folder / "state.json").touch()
    assert list(tmp_path.rglob("*")) == [folder.parent, folder, folder / "state.json"]
    with exclusive(folder):
        (folder / "state.json").unlink()

    assert list(tmp_path.iterdir()) == []


def test_it_leaves_nothing_after_an_error_either(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "home" / ".lab" / "mine"):
        raise ZeroDivisionError

    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_releases_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(LabError, match="lab mine is being brought up or down"):
                exclusive(folder).__enter__()
        finally:
            holder.send_signal(signal.SIGKILL)
    with exclusive(folder):
        pass


def test_it_is_held_by_one_at_a_time_also_while_it_comes_and_goes(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    inside = threading.Semaphore(1)
    alone: list[bool] = []

    def work(_: int) -> None:
        for _turn in range(TURNS):
            with exclusive(folder):
                alone.append(inside.acquire(blocking=False))
                folder.rmdir()
                inside.release()

    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))

    assert alone == [True] * WORKERS * TURNS
