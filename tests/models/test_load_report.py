"""What a replica reports of its load."""

from __future__ import annotations

from itertools import pairwise

import pytest
from xds.data.orca.v3 import orca_load_report_pb2

from models.stub.load_report import ReportsLoad
from models.stub.options import parse_options

ADDRESS = "127.0.0.1:1"
NEEDED = ["--cluster", "c", "--replica", "c-a"]
NEEDED += [each for name in ("listen", "advertise", "control-plane") for each in (f"--{name}", ADDRESS)]


class Clock:
    """Is set by hand, seconds."""

    now = 0.0

    def __call__(self) -> float:
        """The time that was set."""
        return self.now


@pytest.mark.parametrize("service_s", [0.01, 0.05])
def test_rate_by_utilisation_is_the_rate_at_which_it_serves(service_s: float) -> None:
    clock = Clock()
    reports = ReportsLoad((), clock)
    for number in range(1_000):
        clock.now = 0.1 * number
        content = reports.ended(clock.now - service_s)
    report = orca_load_report_pb2.OrcaLoadReport.FromString(content)

    assert report.rps_fractional == pytest.approx(10, rel=0.05)
    assert report.rps_fractional / report.application_utilization == pytest.approx(1 / service_s)


def test_what_was_long_ago_counts_little() -> None:
    clock = Clock()
    reports = ReportsLoad((), clock)
    rates = []
    for clock.now in (0.0, 2.0, 22.0):
        rates.append(orca_load_report_pb2.OrcaLoadReport.FromString(reports.ended(clock.now)).rps_fractional)

    assert rates == pytest.approx([0.5, 0.5 * 1.368, 0.5], rel=0.001)
    assert all(before != after for before, after in pairwise(rates))


def test_a_replica_reports_only_if_it_is_asked_to() -> None:
    assert parse_options(NEEDED).report_load == 0
    assert parse_options([*NEEDED, "--report-load", "1"]).report_load == 1
