"""A caller who would publish, again and again, and how many of its refusals the audit log has."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from lab.faults import AuditLog
from lab.transport import open_blocking_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from services.controlplane.api.audit import REPORT_EVERY_S
from tests.negative.cases.claims import answer_to
from tests.negative.scene import Case, Scene
from tests.negative.wire import Answer

_METHOD, _CALLER = "control.v1.Admin/Publish", "homepage"
_ANSWERED_S = 5.0
COUNTED_WITHIN_S = REPORT_EVERY_S + 5.0
"""After a refusal, also on a busy machine."""
_COUNT = re.compile(r"([0-9]+) (?:more )?refusals (?:before this one )?were left out")


def _publishes(scene: Scene) -> Answer:
    with open_blocking_channel(scene.units["control-plane"], scene.security(_CALLER)) as channel:
        stub = admin_pb2_grpc.AdminStub(channel)
        return answer_to(lambda: list(stub.Publish(admin_pb2.PublishRequest(), timeout=_ANSWERED_S)))


PUBLISH = Case("a caller publishes", "", "control-plane", "PERMISSION_DENIED", "operator", _publishes)
"""Each refusal of it is logged, or counted."""


@dataclass(slots=True)
class Refusals:
    """When attempts at :data:`PUBLISH` ended, Unix seconds; those without an answer may have been refused, too."""

    refused: list[float] = field(default_factory=list)
    unanswered: list[float] = field(default_factory=list)

    def add(self, answer: Answer) -> None:
        """Takes in an answer."""
        (self.refused if PUBLISH.is_refused(answer) else self.unanswered).append(time.time())

    def objections(self, log: AuditLog) -> list[str]:
        """What is wrong with the number of refusals in the log.

        A control plane that is killed loses those that it has not counted yet.
        """
        logged, left_out = 0, 0
        for act in log.acts:
            if act.status == PUBLISH.status and act.who.endswith(f"/{_CALLER}"):
                logged += act.what == _METHOD
                left_out += sum(map(int, _COUNT.findall(act.reason)))
        killed = [act.at_ns / 1e9 for act in log.acts if "control-plane-loss" in act.what and "kill" in act.detail]
        lost = sum(any(abs(kill - at) < COUNTED_WITHIN_S for kill in killed) for at in self.refused)
        most, least = len(self.refused) + len(self.unanswered), len(self.refused) - lost
        if least <= logged + left_out <= most:
            return []
        return [f"{least} to {most} refusals: {logged} logged, {left_out} counted as left out"]
