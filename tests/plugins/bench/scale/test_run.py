"""A whole run, small: real control plane, Envoys and host, traffic under churn, a stuck node, a restart."""

import json
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from docs.site.scale import table
from lab.checkers import Outcome
from lab.plugins.bench.scale.run import ScaleOptions, run
from lab.waiting import eventually


def test_fifty_clusters_answer_three_callers_rightly_under_every_change(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    options = ScaleOptions(clusters=50, callers=3, use_cases=30, seconds=4, rate=60, drivers=2, changes=40, moves=5)

    result = run(options, lambda _: None, tmp_path_factory.mktemp("h"))

    assert result.traffic is not None
    assert Outcome.VALID is result.traffic.outcome, [each.summary for each in result.traffic.verdicts]
    assert (result.traffic.misrouted, result.traffic.callers) == (0, 3)
    assert {"answered", "drivers", "routing"} <= {each.checker for each in result.traffic.verdicts}
    assert result.claims == (), "nothing is wanted of so small a run"
    shown = dict(table(json.loads(json.dumps(result.to_document())))["rows"])
    assert shown["answers at 60 rps: right, wrong, failed"] == f"{result.traffic.summary.ok:,}, 0, 0"
    assert result.figures["churn"]["failures"] == []
    assert all(count > 0 for count in result.figures["churn"]["changes"].values())
    assert (result.figures["move_ms"]["n"], result.figures["move_alone_ms"]["n"]) == (5, 5)
    # A frozen sidecar keeps nobody waiting but the one publish that finds out.
    assert result.figures["stuck"]["move_ms"]["n"] == 20
    # Whoever comes back is not told again what it has.
    assert result.figures["restart"]["xds_kb"]["most"] < result.figures["warm_xds_kb"]["median"] / 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ended_before_its_time_it_takes_its_lab_down(
    tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    home = tmp_path_factory.mktemp("h")  # sockets must not have long paths

    def units() -> list[int]:
        return [each.pid for each in psutil.process_iter(["cmdline"]) if str(home) in str(each.info["cmdline"])]

    command = [str(Path(sys.executable).parent / "lab"), "scale", "--json", "--seconds", "60"]
    command += ["--clusters", "50", "--callers", "2", "--use-cases", "20"]
    environment = {**os.environ, "LAB_HOME": str(home)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as scale:
        eventually("sidecars are there", units, within=timedelta(seconds=60), until=lambda found: len(found) >= 3)
        scale.send_signal(number)
        _, said = scale.communicate(timeout=60)

    assert (scale.returncode, said.splitlines()[-1]) == (130, "lab: interrupted")
    assert units() == []
    assert not list(home.glob(".lab/*"))
