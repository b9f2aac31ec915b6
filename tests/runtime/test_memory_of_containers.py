"""A container that the kernel ends for want of memory is counted, and started again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import docker

from lab.lab import Lab
from lab.runtime.process import memory_watch, processes
from lab.runtime.state import LabState
from lab.waiting import consistently, eventually
from scenarios.framework.steps import registered
from tests.labs import states

WITHIN = timedelta(seconds=60)
UNIT = "ml-cluster-1-a"
HOG = ["python", "-c", "kept = [bytearray(2**20) for _ in range(4096)]"]


def test_it_is_counted_and_started_again_and_one_that_was_killed_is_not(
    engine: docker.DockerClient, compose_lab: Lab
) -> None:
    container = engine.containers.get(LabState.of(compose_lab.folder).running[UNIT].container)
    [*_, unit_pid] = [int(line[1]) for line in container.top()["Processes"]]
    Path(f"/proc/{unit_pid}/oom_score_adj").write_text("1000")  # the kernel ends the unit, not who takes the memory

    container.exec_run(HOG)

    [line] = eventually("it is counted", lambda: _over_ceiling(compose_lab), within=WITHIN)
    assert line.endswith("killed by the kernel, over its memory ceiling of 256 MB")
    eventually("it is started again", lambda: states(compose_lab)[UNIT], until="running".__eq__, within=WITHIN)
    eventually("it is registered", lambda: UNIT in registered(compose_lab), within=WITHIN)

    compose_lab.units.kill(UNIT)
    consistently("it stays down", lambda: states(compose_lab)[UNIT], during=timedelta(seconds=2), until="exited".__eq__)
    assert _over_ceiling(compose_lab) == (line,)

    compose_lab.down()
    assert processes.carrying(memory_watch.MARK, str(compose_lab.folder)) == []


def _over_ceiling(lab: Lab) -> tuple[str, ...]:
    return next(each.over_ceiling for each in lab.status().units if each.name == UNIT)
