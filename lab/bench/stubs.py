"""Stub models that behave otherwise for the time of a measurement."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TIMEOUT_S = 5.0


@contextmanager
def constant_latency(addresses: Sequence[str], ms: float) -> Iterator[None]:
    """Stubs that take ``ms`` milliseconds for each request; afterwards they behave as they did before."""
    with ExitStack() as stack:
        for address in addresses:
            stub = stub_pb2_grpc.StubControlStub(stack.enter_context(open_blocking_channel(address)))
            before = stub.GetBehaviour(stub_pb2.GetBehaviourRequest(), timeout=_TIMEOUT_S, wait_for_ready=True)
            stack.callback(stub.SetBehaviour, before, timeout=_TIMEOUT_S)
            stub.SetBehaviour(stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=ms)), timeout=_TIMEOUT_S)
        yield
