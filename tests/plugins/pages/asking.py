"""Asks a caller of a lab for its page, in the name of another unit."""

from __future__ import annotations

from typing import Any

import grpc

from lab.lab import Lab
from lab.runtime.identities import Identities
from lab.transport import open_blocking_channel
from lab.transport.security import MTLS, Security
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc


def error_of(lab: Lab, name: str, *, of: str) -> Any:
    """The gRPC error of a unit that asks for the page of a caller; None if it gets the page."""
    security = Security(MTLS, str(Identities(lab.folder).of(name)))
    with open_blocking_channel(lab.endpoints().callers[of], security) as channel:
        try:
            caller_pb2_grpc.PagesStub(channel).GetPage(caller_pb2.GetPageRequest(topology="mesh"), timeout=10)
        except grpc.RpcError as error:
            return error
    return None
