"""Owners of a part of the route table who change, take or stage what is not theirs, or administer the lab."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import grpc

from lab.identity import Identity
from lab.transport import open_blocking_channel
from models.proto.control.v1 import admin_pb2, admin_pb2_grpc
from tests.negative.scene import OURS, Case, Scene
from tests.negative.wire import Answer

_S = 30.0
_OWNER = "kids"


def _asks(call: Callable[[admin_pb2_grpc.AdminStub], object]) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        proved = scene.made_up("an owner", Identity("owner", _OWNER))
        with open_blocking_channel(scene.units["control-plane"], proved) as channel:
            try:
                call(admin_pb2_grpc.AdminStub(channel))
            except grpc.RpcError as error:
                return Answer(error.code().name, error.details() or "")
        return Answer("OK", "")

    return attempt


def _publishes(fields: dict[str, Any], *callers: str) -> Callable[[Scene], Answer]:
    """Publishes the table in force with other fields of a use case that nobody owns."""

    def call(stub: admin_pb2_grpc.AdminStub) -> None:
        table = json.loads(stub.GetRevision(admin_pb2.GetRevisionRequest(), timeout=_S).document)
        table["use_cases"][OURS] |= fields
        source = admin_pb2.SourceFile(name="routes.yaml", text=json.dumps(table))
        for _ in stub.Publish(admin_pb2.PublishRequest(sources=[source], callers=callers), timeout=_S):
            pass

    return _asks(call)


_REFUSED = "PERMISSION_DENIED"
_NOBODYS = "nobody owns it, so only the operator may change it"

OWNERS = (
    Case(
        "an owner changes what nobody gave it",
        "mesh",
        "control-plane",
        _REFUSED,
        f"use_cases.{OURS}.timeout: {_NOBODYS}",
        _publishes({"timeout": "9s"}),
    ),
    Case(
        "an owner takes what nobody gave it",
        "mesh",
        "control-plane",
        _REFUSED,
        f"use_cases.{OURS}.owner: {_NOBODYS}",
        _publishes({"owner": _OWNER}),
    ),
    Case(
        "an owner stages what is not its own on one caller",
        "mesh",
        "control-plane",
        _REFUSED,
        f"use_cases.{OURS}.timeout: {_NOBODYS}",
        _publishes({"timeout": "8s"}, "homepage"),
    ),
    Case(
        "an owner lists the lab's nodes",
        "mesh",
        "control-plane",
        _REFUSED,
        "not for .*owner/kids; for the operator only",
        _asks(lambda stub: stub.ListNodes(admin_pb2.ListNodesRequest(), timeout=_S)),
    ),
)
