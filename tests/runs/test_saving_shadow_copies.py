"""Replicas are asked for their copies: what of their answers makes evidence, and what does not."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from lab.client.admin_values import RevisionInfo
from lab.history import Record
from lab.history.record import FIELD_TYPES, FIELDS
from lab.roles import Port, Unit
from lab.runs.shadow_evidence import has_shadow, save_shadow_copies
from lab.transport import listen, new_server
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

KEY = "rows.v2"
BLANK = {name: kind() for name, kind in zip(FIELDS, FIELD_TYPES, strict=True)}


def record(request_id: str, shadow: str = KEY) -> Record:
    return Record(**BLANK | {"request_id": request_id, "shadow": shadow})


def revision(**use_case: object) -> RevisionInfo:
    document = {"use_cases": {"HomepageRows": use_case}}
    return RevisionInfo(1, "", "", 0, in_force=True, steps=(), acknowledgements=(), document=document)


class Replica(stub_pb2_grpc.StubControlServicer):
    """Remembers what it is told to, and more each time that it is asked."""

    def __init__(self, *remembered: list[str], forgotten: int = 0) -> None:
        self._remembered = list(remembered)
        self._forgotten = forgotten

    async def Copies(self, request: stub_pb2.CopiesRequest, context: Any) -> stub_pb2.CopiesResponse:  # noqa: N802
        del request, context
        ids = self._remembered.pop(0) if len(self._remembered) > 1 else self._remembered[0]
        version = stub_pb2.VersionCopies(
            routing_key=KEY, request_ids=ids, forgotten=self._forgotten, received=[each.encode() for each in ids]
        )
        return stub_pb2.CopiesResponse(versions=[version])


class Start(Protocol):
    """Starts a replica that has remembered this, each list once."""

    async def __call__(self, *remembered: list[str], forgotten: int = 0) -> Unit: ...


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start_one(*remembered: list[str], forgotten: int = 0) -> Unit:
            # gRPC answers for the methods that are not there.
            replica = Replica(*remembered, forgotten=forgotten)  # type: ignore[abstract]
            server, _ = new_server()
            stub_pb2_grpc.add_StubControlServicer_to_server(replica, server)
            address = f"127.0.0.1:{listen(server, '127.0.0.1:0')}"
            await server.start()
            stack.push_async_callback(server.stop, 0)
            return Unit("rows-a", "model", (), Port(address, address, address))

        yield start_one


async def kept(folder: Path, units: list[Unit], *records: Record) -> dict[str, list[str]]:
    """Returns the ids of the copies that were saved; each has its own receipt."""
    await asyncio.to_thread(save_shadow_copies, folder, units, records)
    found = json.loads((folder / "copies.json").read_text())
    assert all(receipt == request_id.encode().hex() for copies in found.values() for request_id, receipt in copies)
    return {key: [request_id for request_id, _ in copies] for key, copies in found.items()}


async def test_what_all_replicas_received_of_this_run_is_written_down(start: Start, tmp_path: Path) -> None:
    units = [await start(["older", "r1", "r2", "r2"]), await start(["r3"])]

    copies = await kept(tmp_path, units, record("r1"), record("r2"), record("r3"), record("r4", shadow=""))

    assert copies == {KEY: ["r1", "r2", "r2", "r3"]}


async def test_copies_that_are_still_under_way_are_waited_for(start: Start, tmp_path: Path) -> None:
    units = [await start([], ["r1"], ["r1", "r2"])]

    assert await kept(tmp_path, units, record("r1"), record("r2")) == {KEY: ["r1", "r2"]}


async def test_a_replica_that_cannot_be_asked_leaves_no_evidence(start: Start, tmp_path: Path) -> None:
    nowhere = Unit("rows-b", "model", (), Port("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1"))
    units = [await start(["r1"]), nowhere]

    await asyncio.to_thread(save_shadow_copies, tmp_path, units, [record("r1")])

    assert not (tmp_path / "copies.json").exists()
    assert "rows-b: cannot be asked" in (tmp_path / "copies.error").read_text()


async def test_what_was_forgotten_matters_only_if_it_may_have_been_of_this_run(start: Start, tmp_path: Path) -> None:
    units = [await start(["older", "r1"], forgotten=5)]
    assert await kept(tmp_path, units, record("r1")) == {KEY: ["r1"]}

    (tmp_path / "copies.json").unlink()
    units = [await start(["r1", "r2"], forgotten=5)]
    await asyncio.to_thread(save_shadow_copies, tmp_path, units, [record("r1"), record("r2")])
    assert not (tmp_path / "copies.json").exists()


def test_replicas_are_asked_if_a_table_has_a_shadow_or_a_request_was_marked() -> None:
    assert not has_shadow([revision(default="rows@v1")], [record("r1", shadow="")])
    assert has_shadow([revision(default="rows@v1")], [record("r1")])
    assert has_shadow([revision(shadow={"use": "rows@v2", "percent": 1})], [])
