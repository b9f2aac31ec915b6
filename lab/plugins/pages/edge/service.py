"""Serves ``caller.v1.Pages`` to users: the page of a caller, for the user whom the token names."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.errors import CallError
from lab.plain_text import printable
from lab.plugins.pages.edge.tokens import TokenError, User, user_of
from lab.routing.headers import REQUEST_ID, RETRIES_LEFT, VIA, via
from lab.routing.limits import DEFAULT, Limit
from models.proto.caller.v1 import caller_pb2
from services.gateway.tenant_quota import Limiter, OverLimitError

if TYPE_CHECKING:
    from lab.transport.rpc_logs import RequestLog

    _Context = grpc.aio.ServicerContext[Any, Any]

SERVICE = caller_pb2.DESCRIPTOR.services_by_name["Pages"].full_name
PAGE = "x-page"
"""Header of a request with the name of the caller whose page the user wants."""

LOG_FIELDS = ("request_id", "page", "user_id", "tenant", "status", "ms")
_USERS = 100_000  # with a limit each; beyond that, new ones share one
_PASSED_ON = (REQUEST_ID, RETRIES_LEFT)


class Edge:
    """Admits users by their tokens.

    Args:
        name: of the unit.
        stubs: of each caller that has a page, by its name.
        key: by which tokens are signed.
        user_rps: pages that a user may ask for, per second.
        log: gets a line a page, with :data:`LOG_FIELDS`.
    """

    def __init__(self, name: str, stubs: Mapping[str, Any], *, key: bytes, user_rps: float, log: RequestLog) -> None:
        self._via, self._key, self._user_rps, self._log = via("edge", name), key, user_rps, log
        self._stubs = stubs
        self._limiter = Limiter(most_unnamed=_USERS)
        self._limiter.put_in_force({DEFAULT: Limit(rate=user_rps, burst=math.ceil(user_rps))})

    def handler(self) -> grpc.GenericRpcHandler:
        """What serves :data:`SERVICE`, of which users may ask for pages only."""
        method = grpc.unary_unary_rpc_method_handler(
            self.get_page,
            request_deserializer=caller_pb2.GetPageRequest.FromString,
            response_serializer=caller_pb2.Page.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"GetPage": method})

    async def get_page(self, request: caller_pb2.GetPageRequest, context: _Context) -> caller_pb2.Page:
        """Asks the caller for the page; user and tenant are the token's, never the request's."""
        began, metadata = time.perf_counter(), tuple(context.invocation_metadata() or ())
        name, user, status = _value(metadata, PAGE), User("", ""), "CANCELLED"
        context.set_trailing_metadata(((VIA, self._via),))
        try:
            user = self._admitted(metadata)
            request.context.user_id, request.context.tenant = user
            page = await self._page(name, request, context.time_remaining(), metadata)
        except CallError as error:
            status = error.code.name
            await context.abort(error.code, error.message)
        else:
            status = "OK"
            return page
        finally:
            ms = (time.perf_counter() - began) * 1_000
            self._log.write(request.page_id, printable(name, 64), *user, status, ms)

    def _admitted(self, metadata: Iterable[tuple[str, str | bytes]]) -> User:
        """The user of a request.

        Raises:
            CallError: UNAUTHENTICATED without a good token, RESOURCE_EXHAUSTED above the user's rate.
        """
        try:
            user = user_of(metadata, self._key)
            self._limiter.leave(self._limiter.enter(user.user_id, "page"))
        except TokenError as error:
            raise CallError(grpc.StatusCode.UNAUTHENTICATED, str(error)) from None
        except OverLimitError:
            reason = f"user {user.user_id!r}: more than {self._user_rps:g} pages a second; ask again later"
            raise CallError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason) from None
        return user

    async def _page(
        self,
        name: str,
        request: caller_pb2.GetPageRequest,
        within_s: float | None,
        metadata: Iterable[tuple[str, str | bytes]],
    ) -> caller_pb2.Page:
        if name not in self._stubs:
            known = ", ".join(self._stubs)
            raise CallError(grpc.StatusCode.NOT_FOUND, f"{PAGE}: no page {printable(name, 64)!r}; there are {known}")
        passed_on = tuple(each for each in metadata if each[0] in _PASSED_ON)
        try:
            page: caller_pb2.Page = await self._stubs[name].GetPage(request, timeout=within_s, metadata=passed_on)
        except grpc.aio.AioRpcError as error:
            raise CallError(error.code(), error.details() or "") from None
        return page


def _value(metadata: Iterable[tuple[str, str | bytes]], header: str) -> str:
    """The value of a header that is there once; else empty."""
    values = [value for name, value in metadata if name == header]
    return values[0] if len(values) == 1 and isinstance(values[0], str) else ""
