"""Collects the shadow copies that model replicas received, after a run.

``copies.json`` has, for each routing key, request id and receipt of each copy that its replicas received. It is
written only if all replicas answer and have forgotten no copy of the run: partial evidence would look like lost copies.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import grpc

from lab.errors import UnitError
from lab.runs.folder import COPIES, COPIES_ERROR
from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from lab.client.admin_values import RevisionInfo
    from lab.history import Record
    from lab.roles import Unit

# Copies are sent asynchronously: the last ones may be in flight when the last request is answered.
_SETTLED_WITHIN_S = 3.0
_ASK_AGAIN_S = 0.1
_ASK_TIMEOUT_S = 5.0


def has_shadow(revisions: Iterable[RevisionInfo], records: Collection[Record]) -> bool:
    """Whether a request was marked for a shadow, or any route table up to now has one."""
    documents = (revision.document or {} for revision in revisions)
    return any(record.shadow for record in records) or any(
        "shadow" in use_case for document in documents for use_case in document.get("use_cases", {}).values()
    )


def save_shadow_copies(folder: Path, replicas: Iterable[Unit], records: Iterable[Record]) -> None:
    """Writes the copies that all replicas report, or, if one cannot be asked, the reason to a file ``copies.error``."""
    marked = {record.request_id: record.shadow for record in records}
    replicas = list(replicas)
    give_up = time.monotonic() + _SETTLED_WITHIN_S
    try:
        while True:
            copies = _collect(replicas, marked.keys())
            received = {key: {request for request, _ in each} for key, each in copies.items()}
            missing = any(key and request not in received.get(key, ()) for request, key in marked.items())
            if not missing or time.monotonic() >= give_up:
                break
            time.sleep(_ASK_AGAIN_S)
    except UnitError as error:
        (folder / COPIES_ERROR).write_text(str(error))
    else:
        (folder / COPIES).write_text(json.dumps(copies))


def _collect(replicas: Iterable[Unit], requests: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Returns id and receipt of the copies by routing key, twice if a copy was received twice."""
    copies: dict[str, list[tuple[str, str]]] = {}
    for replica in replicas:
        for version in _ask(replica).versions:
            if version.forgotten and version.request_ids[0] in requests:
                raise UnitError(f"{replica.name}: forgot copies for {version.routing_key}, some of them of this run")
            listed = zip(version.request_ids, version.received, strict=True)
            found = [(request, receipt.hex()) for request, receipt in listed if request in requests]
            copies.setdefault(version.routing_key, []).extend(found)
    return copies


def _ask(replica: Unit) -> stub_pb2.CopiesResponse:
    with open_blocking_channel(replica.address) as channel:
        try:
            return stub_pb2_grpc.StubControlStub(channel).Copies(stub_pb2.CopiesRequest(), timeout=_ASK_TIMEOUT_S)
        except grpc.RpcError as error:
            raise UnitError(f"{replica.name}: cannot be asked for its copies: {error.details()}") from None
