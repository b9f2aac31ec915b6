"""The soak's own verdict: what is missing is said."""

from __future__ import annotations

from typing import cast

import pytest

from lab.client.admin_values import Act
from lab.faults import FAULTS, AuditLog
from lab.lab import Lab
from tests.negative.soak import _FAULTS, _missing_acts, attacks


def _act(what: str, status: str) -> Act:
    return Act(number=1, at_ns=1, who="operator", unit="", what=what, detail="ml-cluster-1-b", status=status, reason="")


class Audited:
    """Stands in for a lab with these acts, as (what, status), in its log."""

    def __init__(self, *acts: tuple[str, str], missing: str = "") -> None:
        self._log = AuditLog(tuple(_act(*each) for each in acts), missing)

    def audit(self) -> AuditLog:
        return self._log


INJECTED, HEALED = ("fault inject kill", "OK"), ("fault heal kill", "OK")


@pytest.mark.parametrize(
    ("lab", "lacks"),
    [
        (Audited(INJECTED, HEALED), []),
        (Audited(HEALED), ["fault inject kill: 1 done, 0 logged"]),
        (Audited(INJECTED, ("fault heal kill", "")), ["fault heal kill ml-cluster-1-b: unfinished"]),
        (Audited(missing="the control plane does not answer"), ["the control plane does not answer"]),
    ],
)
def test_what_the_audit_log_lacks(lab: Audited, lacks: list[str]) -> None:
    assert _missing_acts(cast("Lab", lab), ["fault inject kill"]) == lacks


def test_attackers_try_every_kind_of_unit() -> None:
    units = {"homepage-sidecar", "homepage-resolver", "central-envoy", "gateway-1", "ml-cluster-1-a", "control-plane"}

    assert {case.by for case in attacks()} == units
    assert len(attacks()) >= 40


def test_faults_are_drawn_from_kinds_that_there_are() -> None:
    assert {kind for kind, _, _, _ in _FAULTS} <= set(FAULTS)
