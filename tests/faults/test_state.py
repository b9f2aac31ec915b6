"""What is injected outlives the process that injected it, and never half."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.errors import LabError
from lab.faults.state import STATE, FaultRecord, FaultStore


def record(fault_id: str) -> FaultRecord:
    return FaultRecord(
        id=fault_id,
        kind="slow",
        group="latency",
        target="c",
        level="light",
        seed=1,
        settings={"ms": 2.0},
        units=("c-a",),
        injected_ns=3,
    )


def put(store: FaultStore) -> FaultRecord:
    with store.adding("slow") as (fault_id, _, new):
        new.append(record(fault_id))
        return new[0]


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    store = FaultStore(tmp_path)
    first, second = put(store), put(store)
    store.put(second.remembering({"before": {"c-a": "00"}}))

    again = FaultStore(tmp_path)

    assert again.all() == [first, second.remembering({"before": {"c-a": "00"}})]
    assert again.find(first.id) == first


def test_ids_are_not_used_again(tmp_path: Path) -> None:
    store = FaultStore(tmp_path)
    first = put(store)

    assert store.remove(first.id)
    assert not store.remove(first.id)
    assert put(store).id == "slow-2"


def test_a_refused_fault_leaves_nothing(tmp_path: Path) -> None:
    store = FaultStore(tmp_path)

    def refuse() -> None:
        with store.adding("slow") as (_, _, new):
            new.append(record("slow-1"))
            raise LabError("twice")

    with pytest.raises(LabError, match="twice"):
        refuse()

    assert store.all() == []


def test_a_damaged_file_is_said_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / STATE).write_text('{"next": 1')

    with pytest.raises(LabError, match=r"faults.json: damaged .*; run `lab down` to clean up, then `lab up`$"):
        FaultStore(tmp_path).all()
