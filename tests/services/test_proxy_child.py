"""A proxy's process, which ends with the process that started it, and at its wish before that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

_STUBBORN = "trap '' TERM; sleep 600 & echo stubborn; wait; wait"
_PROGRAM = """
import asyncio, gc, sys
from services.renderer.child import Child

async def main():
    child = Child()
    child.run(("sh", "-c", sys.argv[1]), remedy="")
    while child.last_line != "stubborn":
        await asyncio.sleep(0.01)
    print(child.pid, *child_pids(child.pid), child.folder, flush=True)
    await child.stop(0.1)

def child_pids(pid):
    import psutil
    return [each.pid for each in psutil.Process(pid).children()]

asyncio.run(main())
gc.collect()
print("lives", flush=True)
sys.stdin.read()
"""


def test_a_proxy_that_does_not_end_is_killed_and_the_process_that_started_it_lives() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, _STUBBORN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        *pids, folder = program.stdout.readline().split()
        assert program.stdout.readline() == "lives\n"
        assert len(pids) == 2
        assert not [pid for pid in map(int, pids) if psutil.pid_exists(pid) and _runs(pid)]
        program.communicate()
    assert program.returncode == 0
    assert not Path(folder).exists()


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
