"""Changes the behaviour of stub models for the time of a measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

from lab.transport import open_blocking_channel
from models.proto.control.v1 import stub_pb2, stub_pb2_grpc

_TIMEOUT_S = 5.0


def constant_latency(addresses: Sequence[str], ms: float) -> AbstractContextManager[None]:
    """Has stubs take ``ms`` milliseconds for each request; restores their behaviour afterwards."""
    return behaving(addresses, stub_pb2.Behaviour(constant=stub_pb2.ConstantLatency(ms=ms)))


@contextmanager
def behaving(addresses: Sequence[str], behaviour: stub_pb2.Behaviour) -> Iterator[None]:
    """Sets the fields of ``behaviour`` that are present; restores the stubs' behaviour afterwards."""
    with ExitStack() as stack:
        for address in addresses:
            stub = stub_pb2_grpc.StubControlStub(stack.enter_context(open_blocking_channel(address)))
            before = stub.GetBehaviour(stub_pb2.GetBehaviourRequest(), timeout=_TIMEOUT_S, wait_for_ready=True)
            stack.callback(stub.SetBehaviour, before, timeout=_TIMEOUT_S)
            stub.SetBehaviour(behaviour, timeout=_TIMEOUT_S)
        yield
