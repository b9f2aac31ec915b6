"""Calls of single use cases, and the clients by which a caller calls models."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.errors import CallError, SpecError
from lab.plain_text import require_plain
from lab.topologies import open_client
from lab.transport import expose
from lab.transport.rpc_logs import RequestLog
from models.apis import APIS
from models.context import read_context
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from services.caller.answers import WORDINGS, default_answer

if TYPE_CHECKING:
    from lab.client import Answer, Client
    from models.apis import Api
    from models.proto.serving.v1 import serving_pb2
    from services.caller.config import CallerConfig

    _CallContext = grpc.aio.ServicerContext[caller_pb2.CallRequest, caller_pb2.CallResult]

_FIRST_API = next(iter(APIS))
LOG_FIELDS = ("request_id", "use_case", "topology", "routing_key", "replica", "revision", "source", "status", "ms")


class Caller(caller_pb2_grpc.CallerServicer):
    """Calls models in its own name; keeps one client a topology, opened when it is first needed.

    Args:
        config: name, topologies, addresses and so on.
        log: gets a line a call, with :data:`LOG_FIELDS`; none by default.
    """

    def __init__(self, config: CallerConfig, log: RequestLog | None = None) -> None:
        self.config = config
        self._log = log or RequestLog(None, LOG_FIELDS)
        self._clients: dict[tuple[str, str], Client] = {}
        self._calls: Counter[tuple[str, str]] = Counter()
        expose(
            "lab_caller_calls_total",
            "Calls of use cases, by topology and status.",
            self._calls.copy,
            ("topology", "code"),
        )

    async def Call(self, request: caller_pb2.CallRequest, context: _CallContext) -> caller_pb2.CallResult:
        """Calls one use case; the status is the inference call's."""
        try:
            client = self.client(request.topology)
            fields = fields_of(request.context, request.use_case)
            api, message = self.request_of(request.use_case, request.payload_bytes)
            began = time.perf_counter()
            answer = await self.ask(client, request.use_case, message, fields, request_id=client.new_request_id())
        except CallError as error:
            await context.abort(error.code, error.message)
        return caller_pb2.CallResult(
            use_case=request.use_case,
            topology=client.topology,
            routing_key=answer.routing_key,
            answered_by=answer.response.answered_by,
            revision=answer.revision,
            latency_ms=(time.perf_counter() - began) * 1000,
            result=WORDINGS[api.name].line(answer.response),
            source=answer.source,
            request_id=answer.request_id,
            attempts=answer.attempts,
            shadow=answer.shadow,
        )

    async def end_run(self, run: str) -> None:
        """Closes the clients of a run of pages."""
        own = [key for key in self._clients if key[1] == run]
        await asyncio.gather(*(self._clients.pop(key).close() for key in own))

    async def close(self) -> None:
        """Closes all clients."""
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    def client(self, topology: str, run: str = "") -> Client:
        """The client of a topology, the caller's first by default.

        Args:
            topology: its name.
            run: a run of pages, which has its own client, with its own leases; empty for all other calls.

        Raises:
            CallError: the caller does not have it.
        """
        name = topology or self.config.topologies[0]
        client = self._clients.get((name, run))
        if client is not None:
            return client
        if name not in self.config.topologies:
            known = ", ".join(self.config.topologies)
            reason = f"topology {name!r}: caller {self.config.name} has {known}"
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, reason)
        try:
            own = self.config.name
            client = open_client(name, own, self.config.endpoints, default_answer=default_answer, ids_of=own)
        except SpecError as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        self._clients[name, run] = client
        return client

    def request_of(self, use_case: str, payload_bytes: int) -> tuple[Api, Any]:
        """The API of a use case, and a request of this size, bytes; the caller's usual one if that is 0."""
        api = APIS[self.config.apis.get(use_case, _FIRST_API)]
        return api, api.build_request(payload_bytes or self.config.payload_bytes)

    async def ask(
        self,
        client: Client,
        use_case: str,
        request: Any,
        fields: Mapping[str, str],
        *,
        request_id: str,
        within_s: float | None = None,
        retries_left: int | None = None,
    ) -> Answer:
        """Asks a model as :meth:`lab.client.Client.call` does, counts the call and logs it.

        Raises:
            CallError: as there.
        """
        began = time.perf_counter()
        try:
            answer = await client.call(
                use_case, request, fields, request_id=request_id, within_s=within_s, retries_left=retries_left
            )
        except CallError as error:
            self._ended(client, use_case, request_id, began, error.routing_key, "", error.revision, "", error.code.name)
            raise
        replica = answer.response.answered_by.replica
        how = (answer.routing_key, replica, answer.revision, answer.source, "OK")
        self._ended(client, use_case, request_id, began, *how)
        return answer

    def _ended(self, client: Client, use_case: str, request_id: str, began: float, *how: Any) -> None:
        self._calls[client.topology, how[-1]] += 1
        self._log.write(request_id, use_case, client.topology, *how, (time.perf_counter() - began) * 1000)


def fields_of(message: serving_pb2.RequestContext, use_case: str = "") -> dict[str, str]:
    """The fields of a request's context that are set.

    Raises:
        CallError: INVALID_ARGUMENT: the context or the use case's name is not plain text.
    """
    try:
        require_plain("use_case", use_case)
        return read_context(message)
    except ValueError as error:
        raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
