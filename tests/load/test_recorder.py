"""A record's values stand in the order of its fields, whatever the outcome and the context are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lab.client.outcome import Outcome
from lab.history import Record
from lab.history.record import FIELDS
from lab.load.mix import RequestSpec
from lab.load.outcome import Recorder
from lab.load.plan import UseCase

CONTEXT = {name: f"its {name}" for name in ("user_id", "device", "country", "segment", "surface", "tenant", "caller")}


class Spool:
    def __init__(self) -> None:
        self.kept: list[Sequence[Any]] = []

    def append(self, values: Sequence[Any]) -> None:
        self.kept.append(values)


@pytest.mark.parametrize("pinned", [{}, {"override": "rows@v3"}], ids=["free", "pinned"])
def test_each_value_is_at_the_place_of_its_field(pinned: dict[str, str]) -> None:
    spool = Spool()
    recorder = Recorder("mesh", spool, on_error=print)  # type: ignore[arg-type] # only append is called
    outcome = Outcome("OK", *(f"its {name}" for name in Outcome._fields[1:]))  # type: ignore[arg-type] # to tell them apart
    context = {**CONTEXT, "traffic_origin": "real", **pinned}
    recorder.keep(
        7,
        RequestSpec(UseCase("UpNext", "ranking.v1"), context),
        outcome,
        payload_bytes=400,
        intended_ns=1,
        sent_ns=2,
        done_ns=3,
        request_id="r7",
    )

    [values] = spool.kept
    unix = recorder.unix_offset_ns
    times = {"intended_ns": 1 + unix, "sent_ns": 2 + unix, "done_ns": 3 + unix}
    plain = {"sequence": 7, "request_id": "r7", "topology": "mesh", "use_case": "UpNext", "payload_bytes": 400}
    expected = Record(**{"override": "", **plain, **times, **context, **outcome._asdict()})
    assert dict(zip(FIELDS, values, strict=True)) == {name: getattr(expected, name) for name in FIELDS}
