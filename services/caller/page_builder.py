"""Builds pages: calls of models, and of other callers for theirs.

Each call of a page of a run has an id that says where in the page it is. A page is ``<run>-<page>``. Its part at a
stage and a position has ``.<stage>.<position>`` added, however deep: the id of a call is
``<run>.<caller>-<page>.0.1``, so that a model sees to which page, and to which part of it, a request belongs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
import grpc.aio

from lab.client.outcome import Outcome, answered, failed, record_values
from lab.clock import lab_time_ns
from lab.errors import CallError, InputError, UnitError
from lab.identity import Identity
from lab.routing.headers import RETRIES_LEFT, retries_left
from lab.transport import open_channel
from lab.transport.security import is_operator, peer_identity
from models.context import write_context
from models.proto.caller.v1 import caller_pb2, caller_pb2_grpc
from services.caller.answers import WORDINGS
from services.caller.page_retries import PageRetries
from services.caller.service import fields_of

if TYPE_CHECKING:
    from lab.client import Client
    from services.caller.page_journal import PageJournal
    from services.caller.service import Caller

    _Context = grpc.aio.ServicerContext[Any, Any]

_ID = re.compile(r"(?P<run>[0-9a-f]{8})-(?P<place>[0-9a-f]{8}(\.[0-9]{1,3}){0,64})")
_DRAWN = ("user_id", "device", "country", "segment", "surface", "tenant", "traffic_origin")
_CALLER = "caller"
_LONGEST_S = 60.0  # of a page without a deadline


class _Page(NamedTuple):
    """One page while it is built."""

    request: caller_pb2.GetPageRequest
    run: str
    place: str
    fields: Mapping[str, str]
    deadline: float
    retries: PageRetries

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()


class PageBuilder(caller_pb2_grpc.PagesServicer):
    """Serves ``caller.v1.Pages``.

    Args:
        caller: whose clients and page it uses.
        journal: of all calls and pages.
    """

    def __init__(self, caller: Caller, journal: PageJournal) -> None:
        self._caller, self._config, self._journal = caller, caller.config, journal
        self._stubs = {
            name: caller_pb2_grpc.PagesStub(open_channel(address, peer=f"caller/{name}"))
            for name, address in caller.config.callers.items()
        }

    async def GetPage(self, request: caller_pb2.GetPageRequest, context: _Context) -> caller_pb2.Page:
        """Builds the page stage by stage; a part that fails says why, and the others are built."""
        await self._admit(context, for_user=True)
        try:
            page = self._begun(request, context.time_remaining(), context.invocation_metadata())
            client = self._caller.client(request.topology, page.run)
        except CallError as error:
            await context.abort(error.code, error.message)
        try:
            return await self._built(request, page, client)
        except (InputError, UnitError) as error:  # of its journal
            await context.abort(_code_of(error), str(error))

    async def _built(self, request: caller_pb2.GetPageRequest, page: _Page, client: Client) -> caller_pb2.Page:
        left_ms, sent_ns = page.left_s * 1_000, lab_time_ns()  # in this order, so that what is left is not too little
        built, status = caller_pb2.Page(), "CANCELLED"
        try:
            for stage, parts in enumerate(self._config.page):
                shares = page.retries.shared(len(parts))
                built.sections.extend(
                    await asyncio.gather(
                        *(self._part(page, client, name, f"{stage}.{at}", shares[at]) for at, name in enumerate(parts))
                    )
                )
                page.retries.take_back(shares)
            status, built.retries = "OK", page.retries.spent
            return built
        finally:
            entry = {
                "id": request.page_id,
                "caller": self._config.name,
                "sent_ns": sent_ns,
                "done_ns": lab_time_ns(),
                "status": status,
                "left_ms": left_ms,
                "missing": [each.use_case for each in built.sections if each.error],
            }
            self._keep(page, "page", entry)

    async def ReadJournal(
        self, request: caller_pb2.ReadJournalRequest, context: _Context
    ) -> AsyncIterator[caller_pb2.JournalPart]:
        """What the journal holds of a run, until it is ended."""
        await self._admit(context)
        try:
            async for lines in self._journal.read(request.run, request.after):
                yield caller_pb2.JournalPart(lines=lines)
        except InputError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def EndJournal(
        self, request: caller_pb2.EndJournalRequest, context: _Context
    ) -> caller_pb2.EndJournalResponse:
        """Ends a run's journal."""
        await self._admit(context)
        try:
            self._journal.end(request.run)
            await self._caller.end_run(request.run)
        except (InputError, UnitError) as error:
            await context.abort(_code_of(error), str(error))
        return caller_pb2.EndJournalResponse()

    async def _admit(self, context: _Context, *, for_user: bool = False) -> None:
        """Refuses callers of whose pages this one's is not a part: they would ask models in this one's name.

        Args:
            context: of the RPC.
            for_user: whether it is for a page, which names a user: where an edge proves users, a driver may not.
        """
        identity = peer_identity(context)
        own, fronting = self._config.name, self._config.fronted_by if for_user else ()
        if identity is None or is_operator(identity) or identity.role in fronting:
            return
        if identity.role == _CALLER and identity.name in self._config.part_of:
            return
        if identity == Identity(_CALLER, own):
            if not fronting:
                return
            reason = f"{identity.uri}: users ask for the page of {own} through {' or '.join(fronting)}"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        reason = f"{identity.uri}: the page of {own} is not a part of yours"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)

    def _begun(self, request: caller_pb2.GetPageRequest, within_s: float | None, metadata: Any) -> _Page:
        found = _ID.fullmatch(request.page_id)
        if found is None and request.page_id:
            reason = f"page_id: {request.page_id[:80]!r} is not RUN-PAGE, e.g. 1f3a90c2-0000002c"
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, reason)
        try:
            left = retries_left(metadata)
        except ValueError as error:
            raise CallError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from None
        fields = fields_of(request.context)
        fields = {**dict.fromkeys(_DRAWN, ""), **fields, "caller": self._config.name}
        left_s = min(_LONGEST_S, _LONGEST_S if within_s is None else within_s)
        run, place = (found["run"], found["place"]) if found else ("", "")
        return _Page(request, run, place, fields, time.monotonic() + left_s, PageRetries(left))

    async def _part(
        self, page: _Page, client: Client, name: str, at: str, retries: PageRetries
    ) -> caller_pb2.CallResult:
        if name in self._stubs:
            return await self._page_of(page, name, page.run and f"{page.run}-{page.place}.{at}", retries)
        own = f"{page.run}.{self._config.name}-{page.place}.{at}" if page.run else client.new_request_id()
        return await self._call(page, client, name, own, retries)

    async def _page_of(self, page: _Page, name: str, page_id: str, retries: PageRetries) -> caller_pb2.CallResult:
        """The page of another caller, as a section of this one; it gets what is left of this one's time."""
        request = caller_pb2.GetPageRequest(
            topology=page.request.topology, page_id=page_id, payload_bytes=page.request.payload_bytes
        )
        write_context(request.context, {**page.fields, "caller": ""})
        result = caller_pb2.CallResult(use_case=name, topology=page.request.topology, request_id=page_id)
        metadata = () if retries.left is None else ((RETRIES_LEFT, str(retries.left)),)
        retries.spend_all()
        try:
            rpc = self._stubs[name].GetPage(request, timeout=max(0.0, page.left_s), metadata=metadata)
            result.page.CopyFrom(await rpc)
            retries.spent = result.page.retries
        except grpc.aio.AioRpcError as error:
            result.error = f"{error.code().name}: {name}: {error.details()}"
        return result

    async def _call(
        self, page: _Page, client: Client, use_case: str, request_id: str, retries: PageRetries
    ) -> caller_pb2.CallResult:
        """One call of a model; it is in the journal before its answer is in the page."""
        api, message = self._caller.request_of(use_case, page.request.payload_bytes)
        size, intended_ns = message.ByteSize(), lab_time_ns()
        result = caller_pb2.CallResult(use_case=use_case, topology=client.topology, request_id=request_id)
        if page.left_s <= 0:
            result.error = f"DEADLINE_EXCEEDED: {use_case}: the page's time was over before it was sent"
            return result
        outcome = Outcome("CANCELLED", f"{use_case}: the page was cancelled before an answer came")
        sent_ns = lab_time_ns()
        try:
            answer = await self._caller.ask(
                client,
                use_case,
                message,
                page.fields,
                request_id=request_id,
                within_s=max(0.0, page.left_s),
                retries_left=retries.left,
            )
            result.result = WORDINGS[api.name].line(answer.response)
            result.answered_by.CopyFrom(answer.response.answered_by)
            outcome = answered(answer, api)
        except CallError as error:
            outcome, result.error = failed(error), str(error)
            if error.code is grpc.StatusCode.DEADLINE_EXCEEDED and page.left_s <= 0:
                outcome = outcome._replace(status="CANCELLED")  # no time limit of its own has ended it
        finally:
            retries.spend_reported(client.topology, outcome.status, outcome.attempts)
            values = record_values(
                outcome,
                page.fields,
                sequence=0,
                request_id=request_id,
                topology=client.topology,
                use_case=use_case,
                payload_bytes=size,
                intended_ns=intended_ns,
                sent_ns=sent_ns,
                done_ns=lab_time_ns(),
            )
            self._keep(page, "call", values)
        result.routing_key, result.revision = outcome.routing_key, outcome.revision
        result.source, result.attempts, result.shadow = outcome.source, outcome.attempts, outcome.shadow
        result.items_digest, result.latency_ms = outcome.items_digest, (lab_time_ns() - sent_ns) / 1e6
        return result

    def _keep(self, page: _Page, kind: str, entry: Any) -> None:
        if page.run:
            self._journal.keep(page.run, {kind: entry})


def _code_of(error: InputError | UnitError) -> grpc.StatusCode:
    return grpc.StatusCode.UNAVAILABLE if isinstance(error, UnitError) else grpc.StatusCode.INVALID_ARGUMENT
