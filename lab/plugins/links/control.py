"""The control API of a link, which the operator alone may call: what it has carried, and what it does to bytes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf import json_format, struct_pb2

from lab.errors import LabError
from lab.links import LinkSpec
from lab.transport import open_blocking_channel
from lab.transport.relay import Link, Relay

if TYPE_CHECKING:
    from lab.roles import Unit

SERVICE = "lab.links.Link"
_READ, _CHANGE = "Read", "Change"
_TIMEOUT_S = 5.0
_BITS = 8
_DIRECTIONS = ("there", "back")


def link_of(spec: Mapping[str, float]) -> Link:
    """What a relay does for a link of the spec."""
    return Link(
        delay_s=spec.get("delay_ms", 0.0) / 1e3,
        jitter_s=spec.get("jitter_ms", 0.0) / 1e3,
        bytes_per_s=spec.get("mbit_s", 0.0) * 1e6 / _BITS,
    )


def handlers(relay: Relay, fixed: Mapping[str, Any]) -> grpc.GenericRpcHandler:
    """The API over a relay; ``fixed`` is what it says of itself that never changes."""

    async def read(request: struct_pb2.Struct, context: grpc.aio.ServicerContext[Any, Any]) -> struct_pb2.Struct:
        del request, context
        return _struct({**fixed, **figures_of(relay)})

    async def change(request: struct_pb2.Struct, context: grpc.aio.ServicerContext[Any, Any]) -> struct_pb2.Struct:
        try:
            specs = [LinkSpec.model_validate(json_format.MessageToDict(request)[each]) for each in _DIRECTIONS]
        except (LookupError, ValueError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "there and back: each needs delay_ms of 0 to 10000")
        before = _specs(relay.links)
        relay.links = (link_of(specs[0].model_dump()), link_of(specs[1].model_dump()))
        return _struct(before)

    return grpc.method_handlers_generic_handler(SERVICE, {_READ: _unary(read), _CHANGE: _unary(change)})


def figures_of(relay: Relay) -> dict[str, Any]:
    """What a relay has carried so far, what it does to bytes, and its own error."""
    late = relay.lateness
    return {
        "bytes_there": relay.bytes.to_server,
        "bytes_back": relay.bytes.to_client,
        "connections": relay.connections,
        "held_bytes": relay.held_bytes,
        "late_mean_ms": late.mean_s * 1e3,
        "late_max_ms": late.max_s * 1e3,
        **_specs(relay.links),
    }


def read(unit: Unit) -> dict[str, Any] | None:
    """What a link says; None if it does not answer."""
    try:
        return _call(unit, _READ, {})
    except LabError:
        return None


def change(unit: Unit, links: Mapping[str, Any]) -> dict[str, Any]:
    """Changes what a link does to bytes, by ``there`` and ``back``; returns what it did before.

    Raises:
        LabError: it does not answer.
    """
    return _call(unit, _CHANGE, {each: links[each] for each in _DIRECTIONS})


def _call(unit: Unit, method: str, request: Mapping[str, Any]) -> dict[str, Any]:
    with open_blocking_channel(unit.address) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/{method}",
            struct_pb2.Struct.SerializeToString,
            struct_pb2.Struct.FromString,
        )
        try:
            return dict(json_format.MessageToDict(call(_struct(request), timeout=_TIMEOUT_S)))
        except grpc.RpcError as error:
            raise LabError(
                f"{unit.name}: does not answer ({error.code().name}: {error.details()}); start it, or resume it"
            ) from None


def _specs(links: tuple[Link, Link]) -> dict[str, Any]:
    return {name: _spec(link) for name, link in zip(_DIRECTIONS, links, strict=True)}


def _spec(link: Link) -> dict[str, float]:
    found = asdict(link)
    return {
        "delay_ms": found["delay_s"] * 1e3,
        "jitter_ms": found["jitter_s"] * 1e3,
        "mbit_s": found["bytes_per_s"] * _BITS / 1e6,
    }


def _struct(document: Mapping[str, Any]) -> struct_pb2.Struct:
    return json_format.ParseDict(dict(document), struct_pb2.Struct())


def _unary(
    behaviour: Callable[[struct_pb2.Struct, Any], Awaitable[struct_pb2.Struct]],
) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.unary_unary_rpc_method_handler(
        behaviour,
        request_deserializer=struct_pb2.Struct.FromString,
        response_serializer=struct_pb2.Struct.SerializeToString,
    )
