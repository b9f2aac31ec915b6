from __future__ import annotations

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.errors import LabError
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


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path / "mine"), pytest.raises(LabError, match="lab mine is being brought up or down"):
        exclusive(tmp_path / "mine").__enter__()


def test_the_lock_goes_with_the_folder_and_stays_with_it(tmp_path: Path) -> None:
    folder = tmp_path / ".lab" / "mine"
    with exclusive(folder):
        pass
    assert folder.exists()
    with exclusive(folder):
        folder.rmdir()

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
