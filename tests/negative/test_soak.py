"""The soak's own verdict: what is missing is said."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from lab.client.admin_values import Act
from lab.faults import FAULTS, AuditLog
from tests.negative.intruder import Refusals
from tests.negative.soak import _FAULTS, _kept, _missing_acts, attacks


def _act(what: str, status: str) -> Act:
    return Act(number=1, at_ns=1, who="operator", unit="", what=what, detail="ml-cluster-1-b", status=status, reason="")


def _audited(*acts: tuple[str, str], missing: str = "") -> AuditLog:
    """A log with these acts, as (what, status)."""
    return AuditLog(tuple(_act(*each) for each in acts), missing)


INJECTED, HEALED = ("fault inject kill", "OK"), ("fault heal kill", "OK")


@pytest.mark.parametrize(
    ("log", "lacks"),
    [
        (_audited(INJECTED, HEALED), []),
        (_audited(HEALED), ["fault inject kill: 1 done, 0 logged"]),
        (_audited(INJECTED, ("fault heal kill", "")), ["fault heal kill ml-cluster-1-b: unfinished"]),
        (_audited(missing="the control plane does not answer"), ["the control plane does not answer"]),
    ],
)
def test_what_the_audit_log_lacks(log: AuditLog, lacks: list[str]) -> None:
    assert _missing_acts(log, ["fault inject kill"]) == lacks


def test_attackers_try_every_kind_of_unit() -> None:
    units = {"homepage-sidecar", "homepage-resolver", "central-envoy", "gateway-1", "ml-cluster-1-a", "control-plane"}

    assert {case.by for case in attacks()} == units
    assert len(attacks()) >= 40


def test_faults_are_drawn_from_kinds_that_there_are() -> None:
    assert {kind for kind, _, _, _ in _FAULTS} <= set(FAULTS)


WHO = "spiffe://lab.internal/caller/homepage"


def _refused(what: str, reason: str = "") -> Act:
    return replace(_act(what, "PERMISSION_DENIED"), who=WHO, reason=reason)


LOGGED = (
    _refused("control.v1.Admin/Publish"),
    _refused("control.v1.Admin/Publish", "(more refusals are left out for up to 60 s)"),
    _refused("refusals", "40 refusals were left out"),
    replace(_refused("refusals", "9 refusals were left out"), who="spiffe://lab.internal/caller/search"),
    _refused("control.v1.Admin/Publish", "for the operator only (7 more refusals before this one were left out)"),
)
KILLED = replace(_act("fault inject control-plane-loss", "OK"), detail="control-plane how kill", at_ns=10**11)


@pytest.mark.parametrize(
    ("refused", "unanswered", "acts", "objections"),
    [
        (50, 0, LOGGED, []),
        (51, 0, LOGGED, ["51 to 51 refusals: 3 logged, 47 counted as left out"]),
        (49, 0, LOGGED, ["49 to 49 refusals: 3 logged, 47 counted as left out"]),
        (49, 1, LOGGED, []),
        (51, 0, (*LOGGED, KILLED), []),
    ],
)
def test_every_refusal_is_logged_or_counted(
    refused: int, unanswered: int, acts: tuple[Act, ...], objections: list[str]
) -> None:
    refusals = Refusals([1.0] * (refused - 1) + [99.0], [50.0] * unanswered)

    assert refusals.objections(AuditLog(acts, "")) == objections


def test_a_unit_is_back_within_a_tenth_or_what_it_keeps() -> None:
    this = psutil.Process()
    mb = this.memory_info().rss / 1e6
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        killed = psutil.Process(process.pid)

    before = {"back": (this, mb), "grown": (this, mb / 2), "evidence": (this, mb / 2), "killed": (killed, 1.0)}

    assert _kept(before, {"evidence": mb}).keys() == {"grown"}
