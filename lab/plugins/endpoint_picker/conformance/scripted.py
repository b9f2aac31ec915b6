"""A picker that does what a check tells it to, by headers alone or with bodies in full duplex."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from envoy.config.core.v3 import base_pb2
from envoy.service.ext_proc.v3 import external_processor_pb2 as messages
from envoy.service.ext_proc.v3 import external_processor_pb2_grpc
from google.protobuf import struct_pb2
from grpc_health.v1 import health, health_pb2_grpc

from lab.errors import UnitError
from lab.plugins.endpoint_picker.bodies import in_full_duplex, passed_on
from lab.plugins.endpoint_picker.contract import DESTINATION, NAMESPACE, SERVED, SUBSET, SUBSET_NAMESPACE

_BODIES = ("request_body", "response_body")


@dataclass(slots=True)
class Seen:
    """What the picker has seen of one request.

    Attributes:
        headers: of the request.
        subset: endpoints within which it is to pick; None if the gateway named none.
        served: endpoint that has served, by the gateway; empty if it did not say.
        body_bytes: of request and answer.
    """

    headers: Mapping[str, str]
    subset: tuple[str, ...] | None = None
    served: str = ""
    body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pick:
    """What the picker answers.

    Attributes:
        header: value of the header.
        metadata: value of the metadata; that of the header if None.
    """

    header: str
    metadata: str | None = None

    def message(self) -> messages.ProcessingResponse:
        """The answer to the request's headers."""
        option = base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=DESTINATION, raw_value=self.header.encode()),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        metadata = struct_pb2.Struct()
        metadata.get_or_create_struct(NAMESPACE)[DESTINATION] = self.header if self.metadata is None else self.metadata
        common = messages.CommonResponse(header_mutation=messages.HeaderMutation(set_headers=[option]))
        return messages.ProcessingResponse(
            request_headers=messages.HeadersResponse(response=common), dynamic_metadata=metadata
        )


Behaviour = Callable[[Seen], Awaitable[messages.ProcessingResponse]]
"""Answers a request's headers."""


def picks(*endpoints: str, metadata: str | None = None) -> Behaviour:
    """Picks these endpoints for every request."""

    async def behave(_seen: Seen) -> messages.ProcessingResponse:
        return Pick(",".join(endpoints), metadata).message()

    return behave


async def never(_seen: Seen) -> messages.ProcessingResponse:
    """Does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def nonsense(_seen: Seen) -> messages.ProcessingResponse:
    """Answers a message that was not sent."""
    return messages.ProcessingResponse(response_body=messages.BodyResponse())


@dataclass(slots=True)
class ScriptedPicker(external_processor_pb2_grpc.ExternalProcessorServicer):  # type: ignore[misc]  # untyped wheel
    """Serves on its own port, which it keeps when it is stopped and started again.

    Attributes:
        address: ``ip:port``.
        behave: answers a request's headers.
        seen: by the value of the header :attr:`names_by`.
        names_by: header that tells requests apart.
    """

    address: str
    behave: Behaviour
    names_by: str
    seen: dict[str, Seen] = field(default_factory=dict)
    _server: Any = None

    async def start(self) -> None:
        """Starts it, if it does not run.

        Raises:
            UnitError: its port is in use.
        """
        if self._server is not None:
            return
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        external_processor_pb2_grpc.add_ExternalProcessorServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
        try:
            port = server.add_insecure_port(self.address)
        except RuntimeError:
            raise UnitError(f"{self.address}: no picker can listen: is the port taken? see --first-port") from None
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        await server.start()
        self._server = server

    async def stop(self) -> None:
        """Ends it with all its connections, as a crash would."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(None)

    async def Process(  # noqa: N802 (gRPC's name)
        self, request_iterator: AsyncIterator[messages.ProcessingRequest], context: Any
    ) -> AsyncIterator[messages.ProcessingResponse]:
        """One request's stream."""
        del context
        seen, duplex = Seen({}), False
        async for message in request_iterator:
            kind = message.WhichOneof("request")
            duplex = duplex or in_full_duplex(message)
            if kind == "request_headers":
                seen = _seen_in(message)
                self.seen[seen.headers.get(self.names_by, "")] = seen
                yield await self.behave(seen)
            elif kind == "response_headers":
                seen.served = _served(message)
                yield messages.ProcessingResponse(response_headers=messages.HeadersResponse())
            elif kind in _BODIES:
                body = getattr(message, kind)
                seen.body_bytes += len(body.body)
                yield passed_on(kind, body, duplex=duplex)
            else:
                yield messages.ProcessingResponse(**{kind: messages.TrailersResponse()})


def _seen_in(message: messages.ProcessingRequest) -> Seen:
    headers = {
        each.key: each.value or each.raw_value.decode("utf-8", "replace")
        for each in message.request_headers.headers.headers
    }
    hint = message.metadata_context.filter_metadata.get(SUBSET_NAMESPACE)
    if hint is None or SUBSET not in hint.fields:
        return Seen(headers)
    return Seen(headers, tuple(each.string_value for each in hint.fields[SUBSET].list_value.values))


def _served(message: messages.ProcessingRequest) -> str:
    said = message.metadata_context.filter_metadata.get(NAMESPACE)
    return str(said.fields[SERVED].string_value) if said is not None and SERVED in said.fields else ""
