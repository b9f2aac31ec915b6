"""Standing a lab up where all is slow: what does not answer yet is waited for."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import yaml

from lab.client.admin import AdminClient
from lab.errors import DeadlineError, UnitError
from lab.ops.bringup import BringUp
from lab.roles import CONTROL_PLANE, MODEL, ROLES, Probe, StartingLab, Unit
from lab.routing.document import RouteTable
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from tests.labs import ROUTES

SLOW = 3
"""How often nobody answers at first."""


class Reluctant(admin_pb2_grpc.AdminServicer):
    """A control plane that cannot be reached so many times."""

    def __init__(self) -> None:
        self.left = SLOW

    def GetStatus(self, request: admin_pb2.GetStatusRequest, context: grpc.ServicerContext) -> Any:  # noqa: N802
        del request
        if self.left:
            self.left -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection attempt timed out before receiving SETTINGS frame")
        return admin_pb2.Status(revision=7)


@pytest.fixture
def reluctant() -> Iterator[tuple[Reluctant, str]]:
    # gRPC answers for the methods that are not there.
    servicer = Reluctant()  # type: ignore[abstract]
    server = grpc.server(ThreadPoolExecutor(2))
    admin_pb2_grpc.add_AdminServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def bring_up(state: str) -> BringUp:
    """On a runtime where one unit is in that state."""
    runtime: Any = SimpleNamespace(
        states=lambda _: {"a": state}, last_words=lambda _: "last words", log=lambda unit: Path(f"{unit}.log")
    )
    return BringUp(runtime, Path("state.json"), lambda _: None)


def waited_for(state: str, admin: AdminClient) -> None:
    """Waits, on such a runtime, for a role whose probe asks the control plane whether revision 7 is in force."""

    def missing(units: Sequence[Unit], lab: StartingLab) -> list[str]:
        return [] if lab.admin.status().revision == 7 else [unit.name for unit in units]

    role = replace(ROLES[MODEL], probe=Probe(missing=missing))
    planned: Any = SimpleNamespace(with_role=lambda _: [SimpleNamespace(name="a", address="")])
    lab: Any = SimpleNamespace(running={}, plan=planned)
    bring_up(state)._wait_for(role, lab, admin)


def test_a_control_plane_that_cannot_be_reached_for_a_moment_is_asked_again(reluctant: tuple[Reluctant, str]) -> None:
    servicer, address = reluctant
    with AdminClient(address) as admin:
        waited_for("running", admin)

    assert servicer.left == 0


def test_so_is_one_whose_revision_is_asked_for(reluctant: tuple[Reluctant, str]) -> None:
    servicer, address = reluctant
    state: Any = SimpleNamespace(plan=SimpleNamespace(control_plane=address))

    assert bring_up("running").publish(state, []) == 7
    assert servicer.left == 0


def test_one_that_has_ended_is_not() -> None:
    with AdminClient("127.0.0.1:1") as admin, pytest.raises(UnitError, match="a ended while starting: last words"):
        waited_for("exited", admin)


def test_a_unit_that_ends_before_the_first_answer_is_named() -> None:
    """Instead of the connection that nobody accepts."""
    plan = SimpleNamespace(callers={"homepage"}, unit=lambda _: SimpleNamespace(address="127.0.0.1:1"))
    state: Any = SimpleNamespace(running={}, plan=plan, topologies=("mesh",))
    table = RouteTable.from_document(yaml.safe_load(ROUTES))

    with pytest.raises(UnitError, match="a ended while starting: last words"):
        bring_up("exited").verify(state, table, 1)


def test_a_control_plane_that_never_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.ops.bringup.START_TIMEOUT", timedelta(seconds=1))
    with AdminClient("127.0.0.1:1") as admin, pytest.raises(DeadlineError, match=CONTROL_PLANE):
        waited_for("running", admin)
