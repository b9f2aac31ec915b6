"""What is seen of a slow replica is not what a busy machine does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import pytest

from lab.faults.fault_context import FaultContext, Probes
from lab.faults.kinds.slow import Slow
from lab.faults.observation import Visible
from lab.faults.state import FaultRecord
from models.proto.control.v1 import stub_pb2

STALLED = (458.0, 31.0, 831.0, 640.0, 29.0, 512.0, 470.0, 455.0)
SLOW = (336.0, 327.0, 341.0, 329.0, 333.0, 350.0, 327.0, 338.0)
QUICK = (30.0, 29.0, 33.0, 28.0, 41.0, 29.0, 30.0, 31.0)


class _Replica:
    """The context of one replica, whose probes have given latencies."""

    def __init__(self, latencies_ms: Iterable[float], statuses: Iterable[str] = ()) -> None:
        self.latencies_ms = tuple(latencies_ms)
        self.statuses = tuple(statuses) or ("OK",) * len(self.latencies_ms)

    def states(self) -> dict[str, str]:
        return {"a": "running"}

    def behaviour(self, _: str) -> stub_pb2.Behaviour:
        return stub_pb2.Behaviour()

    def counts(self, _: str) -> stub_pb2.Counts:
        return stub_pb2.Counts(requests=3)

    def loaded_keys(self, names: Iterable[str]) -> dict[str, str]:
        return dict.fromkeys(names, "cw-ranker.v1")

    def apis(self) -> dict[str, str]:
        return {"cw-ranker.v1": "ranking.v1"}

    def probe(self, name: str, key: str, calls: int, *, api: str) -> Probes:
        assert (name, key, calls, api) == ("a", "cw-ranker.v1", len(self.latencies_ms), "ranking.v1")
        return Probes(self.statuses, self.latencies_ms)


def _seen(before: _Replica, now: _Replica, *, sigma: float = 0) -> Visible:
    fault = FaultRecord(
        id="slow-1",
        kind="slow",
        group="latency",
        target="a",
        level="medium",
        seed=1,
        settings={"ms": 300.0, "sigma": sigma, "share": 1.0},
        units=("a",),
        injected_ns=1,
    )
    remembered = fault.remembering(Slow().prepare(cast("FaultContext", before), fault))
    return Slow().observe(cast("FaultContext", now), remembered).visible


@pytest.mark.parametrize(
    ("before", "now", "visible"),
    [
        (QUICK, SLOW, Visible.YES),
        (STALLED, SLOW, Visible.YES),  # the machine was busy when it was injected
        (QUICK, STALLED, Visible.NO),  # and here when somebody looked, but nothing was slowed down
        (QUICK, QUICK, Visible.NO),
        (SLOW, SLOW, Visible.NO),
    ],
)
def test_a_constant_delay_is_in_every_answer(
    before: tuple[float, ...], now: tuple[float, ...], visible: Visible
) -> None:
    assert _seen(_Replica(before), _Replica(now)) is visible


def test_a_varying_delay_is_seen_by_the_median() -> None:
    now = _Replica((20.0, 90.0, 300.0, 310.0, 340.0, 400.0, 700.0, 1500.0))

    assert _seen(_Replica(QUICK), now, sigma=1) is Visible.YES
    assert _seen(_Replica(QUICK), now) is Visible.NO


def test_an_error_that_comes_at_once_is_no_quick_answer() -> None:
    now = _Replica((1.0, *SLOW[1:]), ("INTERNAL", *("OK",) * 7))

    assert _seen(_Replica(QUICK), now) is Visible.YES


@pytest.mark.parametrize("sigma", [0, 2])
def test_models_must_show_a_constant_and_a_varying_delay(sigma: float) -> None:
    assert Slow().adds_ms({"ms": 300.0, "sigma": sigma, "share": 1.0}) == 300.0
