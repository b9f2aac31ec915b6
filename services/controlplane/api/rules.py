"""The rules API: one stream for each resolver and gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from lab.identity import Identity
from lab.plain_text import require_plain
from lab.transport import is_operator, peer_identity
from models.proto.control.v1 import rules_pb2, rules_pb2_grpc
from services.controlplane.nodes.admission import Admission, Claim, NodeRefusedError
from services.controlplane.publishing.rules_feed import MAX_REVISION, LeftBehindError, RulesFeed


class RulesServicer(rules_pb2_grpc.RulesServicer):
    """Serves rules streams."""

    def __init__(self, feed: RulesFeed, admission: Admission) -> None:
        self._feed, self._admission = feed, admission

    async def Subscribe(
        self, request_iterator: AsyncIterator[rules_pb2.SubscribeRequest], context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[rules_pb2.RulesUpdate]:
        """See :meth:`RulesFeed.serve`."""
        hello = await anext(aiter(request_iterator), None)
        if hello is None:
            return
        try:
            require_plain("node", hello.node)
            require_plain("role", hello.role)
        except ValueError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if hello.revision > MAX_REVISION:
            reason = f"revision: {hello.revision} is more than {MAX_REVISION}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        identity = peer_identity(context)
        if identity is not None and not is_operator(identity) and identity != Identity(hello.role, hello.node):
            reason = f"{identity.uri} may not be node {hello.node!r} ({hello.role})"
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, reason)
        claim = Claim(hello.node or context.peer(), hello.role, who=identity.uri if identity else "")
        try:
            with self._admission.stream(identity, claim):
                async for update in self._feed.serve(hello, request_iterator, claim.node):
                    yield update
        except NodeRefusedError as error:
            await context.abort(error.code, str(error))
        except LeftBehindError as error:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
