"""Before a run: is the machine busy, and which rate fits it if none is given?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_type_hints

import pytest
from typer.testing import CliRunner

from lab.cli import app
from lab.cli.rate import choose_duration
from lab.lab import Lab
from lab.load.progress import Progress
from lab.ops import headroom
from lab.ops.headroom import Headroom, measure, waiting_in
from lab.runs import LoadOptions

IDLE = Headroom(cores=2, free=1.9, stolen=0.0, waiting=0.01, load=0.1)
BUSY = Headroom(cores=2, free=0.2, stolen=0.03, waiting=0.6, load=12.1)


def test_it_is_said_in_words() -> None:
    assert str(IDLE) == "free: 1.9 of 2 cores free, load 0.1, processes wait 1 % of the time"
    assert str(BUSY) == "busy: 0.2 of 2 cores free, load 12.1, 3 % stolen, processes wait 60 % of the time"


@pytest.mark.parametrize(
    ("machine", "busy"),
    [
        (IDLE, False),
        (BUSY, True),
        (Headroom(cores=2, free=1.9, stolen=0.2, waiting=None, load=0.1), True),
        (Headroom(cores=2, free=0.9, stolen=0.0, waiting=None, load=0.1), True),
        (Headroom(cores=2, free=1.9, stolen=0.0, waiting=0.5, load=0.1), True),
    ],
)
def test_each_sign_of_a_busy_machine_counts(machine: Headroom, *, busy: bool) -> None:
    assert machine.is_busy == busy


@pytest.mark.parametrize(
    ("machine", "payload", "callers", "rate"),
    [
        (IDLE, 400, 1, 100),
        (IDLE, 27_000, 1, 100),
        (IDLE, 4_000_000, 1, 10),
        (IDLE, 400, 5, 20),
        (BUSY, 400, 1, 10),
        (Headroom(cores=2, free=0.0, stolen=0.0, waiting=1.0, load=50), 400, 1, 10),
        (Headroom(cores=2, free=0.0, stolen=0.0, waiting=1.0, load=50), 400, 5, 2),
    ],
)
def test_a_rate_fits_cores_payload_and_callers(machine: Headroom, payload: int, callers: int, rate: float) -> None:
    assert machine.rate(payload_bytes=payload, callers=callers) == rate


def test_this_machine_has_a_headroom() -> None:
    found = measure()

    assert 0 <= found.free <= found.cores
    assert 0 <= found.stolen <= 1


def test_pressure_is_read_as_the_kernel_writes_it() -> None:
    assert waiting_in("some avg10=12.50 avg60=1.00 avg300=0.10 total=5\nfull avg10=0.00\n") == 0.125
    assert waiting_in("") is None


@pytest.mark.parametrize(
    ("options", "rate", "said"),
    [
        ([], 10, "no --rate is given: 10 rps fit this machine now; `--rate 10` repeats it"),
        (["--rate", "70"], 70, ""),
        (["--engine", "locust"], 100, ""),
        (["--workers", "0"], 100, ""),
    ],
)
def test_the_command_chooses_a_rate_only_if_none_is_given(
    options: list[str], rate: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[LoadOptions] = []
    zeros: dict[str, Any] = dict.fromkeys(get_type_hints(Progress), 0)

    def load(_: Lab, given: LoadOptions, *, progress: Callable[[Progress], None]) -> None:
        seen.append(given)
        for _again in range(2):
            progress(Progress(**zeros))
        raise SystemExit

    monkeypatch.setattr(Lab, "load", load)
    monkeypatch.setattr(Lab, "duration_to_judge", lambda *_: (0.0, ""))
    monkeypatch.setattr(headroom, "measure", lambda: BUSY)
    result = CliRunner().invoke(app, ["load", *options])

    assert [each.rate for each in seen] == [rate]
    printed = " ".join(result.stderr.split())
    assert printed.count("machine was busy: 0.2 of 2 cores free") == 1
    assert said in printed
    assert ("no --rate" in printed) == bool(said)


@pytest.mark.parametrize(
    ("needed_s", "chosen_s", "said"),
    [
        (3.0, 10.0, []),
        (17.2, 18.0, ["no --duration is given: 18 s, so that the 5 % arm can be judged"]),
        (99.5, 30.0, ["no --duration is given: 30 s; `--duration 100` would judge the 5 % arm, too"]),
    ],
)
def test_a_duration_is_as_long_as_the_smallest_share_needs(needed_s: float, chosen_s: float, said: list[str]) -> None:
    lines: list[str] = []

    assert choose_duration([(0.0, ""), (needed_s, "the 5 % arm")], lines) == chosen_s
    assert lines == said
