"""The audit log: durable, append-only, and not to be filled by whoever may do nothing."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from lab.transport.rpc_logs import Act
from models.proto.control.v1 import admin_pb2, faults_pb2
from services.controlplane.api.audit import AuditLog, described
from services.controlplane.registry.revisions import Registry

ACT = Act(1_700_000_000_000_000_000, "spiffe://lab.internal/operator/cli", "control-plane", "Admin/Publish", "a.yaml")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry.sqlite"


@pytest.fixture
def registry(file: Path) -> Iterator[Registry]:
    registry = Registry(file)
    yield registry
    registry.close()


@pytest.fixture
def log(registry: Registry) -> AuditLog:
    return AuditLog(registry)


def test_an_act_is_there_before_it_has_ended_and_after_a_restart(log: AuditLog, file: Path) -> None:
    first, second = log.begin(ACT), log.begin(ACT)
    log.end(first, "OK", "")

    reopened = Registry(file)
    acts = AuditLog(reopened).acts(0)
    reopened.close()

    assert [(each.number, each.status) for each in acts] == [(first, "OK"), (second, "")]
    assert (ACT.who, ACT.detail) == (acts[0].who, acts[0].detail)
    assert ACT.at_ns == acts[0].at.seconds * 1_000_000_000 + acts[0].at.nanos


def test_the_latest_are_shown_oldest_first(log: AuditLog) -> None:
    numbers = [log.begin(ACT) for _ in range(5)]

    assert [each.number for each in log.acts(2)] == numbers[-2:]


@pytest.mark.parametrize("statement", ["UPDATE acts SET who = 'somebody'", "DELETE FROM acts", "DELETE FROM outcomes"])
def test_the_log_is_append_only(log: AuditLog, file: Path, statement: str) -> None:
    log.end(log.begin(ACT), "OK", "")

    with closing(sqlite3.connect(file)) as other, pytest.raises(sqlite3.Error, match="append-only"):
        other.execute(statement)


def test_a_thousand_refusals_do_not_fill_it(log: AuditLog) -> None:
    for _ in range(1_000):
        log.refused(ACT, "for the operator only")
    log.end(log.begin(ACT), "OK", "")

    statuses = [each.status for each in log.acts(0)]
    assert statuses == ["PERMISSION_DENIED"] * 60 + ["OK"]


def test_one_callers_refusals_hide_no_other_and_are_counted(log: AuditLog, monkeypatch: pytest.MonkeyPatch) -> None:
    other = replace(ACT, who="spiffe://lab.internal/caller/search")
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for _ in range(100):
        log.refused(ACT, "for the operator only")
    log.refused(other, "for the operator only")
    now += 61
    log.refused(ACT, "for the operator only")

    acts = log.acts(0)
    assert [each.who for each in acts] == [ACT.who] * 60 + [other.who, ACT.who]
    assert acts[59].reason == "for the operator only (more refusals are left out for up to 60 s)"
    assert acts[-2].reason == "for the operator only"
    assert acts[-1].reason == "for the operator only (40 more refusals before this one were left out)"


def test_what_is_left_out_of_an_identity_that_does_not_return_is_counted(
    log: AuditLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for refusals in (100, 0, 7):
        for _ in range(refusals):
            log.refused(ACT, "for the operator only")
        log.report_left_out()

    now += 61
    log.report_left_out()
    log.refused(ACT, "for the operator only")

    assert [(each.who, each.what, each.reason) for each in log.acts(0)[60:]] == [
        (ACT.who, "refusals", "40 refusals were left out"),
        (ACT.who, "refusals", "7 refusals were left out"),
        (ACT.who, "Admin/Publish", "for the operator only"),
    ]


async def test_what_is_left_out_is_counted_at_the_end(log: AuditLog) -> None:
    for _ in range(70):
        log.refused(ACT, "for the operator only")

    reporting = asyncio.create_task(log.report_regularly())
    await asyncio.sleep(0)
    reporting.cancel()
    await asyncio.gather(reporting, return_exceptions=True)

    assert log.acts(0)[-1].reason == "10 refusals were left out"


def test_made_up_identities_cannot_fill_it_either(log: AuditLog) -> None:
    for number in range(1_000):
        log.refused(replace(ACT, who=f"unproved ipv4:127.0.0.1:{number}"), "no")

    assert len(log.acts(0)) == 60


def test_an_act_is_described_without_the_route_table() -> None:
    publish = admin_pb2.PublishRequest(author="ann", comment="faster", unsafe_skip_phases=True)
    publish.sources.add(name="routes.yaml", text="use_cases: …")
    offer = faults_pb2.OfferRequest(wrong=faults_pb2.WRONG_STALE_RULES, nodes=["gateway-1"])

    assert described(publish) == "routes.yaml; author ann: faster, phases skipped"
    assert described(admin_pb2.RollbackRequest(revision=3)) == "to revision 3; author ?: no comment"
    assert described(offer) == 'wrong: WRONG_STALE_RULES nodes: "gateway-1"'
