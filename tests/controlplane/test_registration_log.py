"""The control plane remembers which replicas were registered, and when."""

from __future__ import annotations

from itertools import count

import pytest

from services.controlplane.nodes import registration_log
from services.controlplane.nodes.registration_log import Registration, RegistrationLog


def _log() -> RegistrationLog:
    return RegistrationLog(count(1).__next__)


def test_registrations_begin_and_end() -> None:
    log = _log()
    log.begin("a", "a-0")
    log.begin("a", "a-1")
    log.end("a", "a-0")
    log.begin("a", "a-0")

    assert log.since_ns == 1
    assert sorted(log.registrations, key=lambda each: each.began_ns) == [
        Registration("a", "a-0", 2, 4),
        Registration("a", "a-1", 3),
        Registration("a", "a-0", 5),
    ]


def test_a_replica_that_registers_over_another_stream_goes_on() -> None:
    log = _log()
    log.begin("a", "a-0")
    log.begin("a", "a-0")

    assert log.registrations == [Registration("a", "a-0", 2)]


def test_what_is_forgotten_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration_log, "_MOST_ENDED", 1)
    log = _log()
    for _ in range(2):
        log.begin("a", "a-0")
        log.end("a", "a-0")

    assert [each.ended_ns for each in log.registrations] == [5]
    assert log.since_ns == 3
