"""One request on its way: which version is tried, in what time, and what comes of a failure."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.client import headers
from lab.client.status import ENDS_IN_DEFAULT, FALLS_BACK, explained
from lab.errors import CallError
from lab.routing.buckets import is_shadowed
from lab.routing.keys import HEADER, SHADOW_HEADER

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import grpc
    import grpc.aio

    from lab.client.decisions import Decision, Target
    from lab.client.rpc_channel import Wire


class Told(NamedTuple):
    """What is known about how a request went; for the fields see :class:`lab.client.Answer`."""

    source: str
    routing_key: str
    revision: int
    attempts: int
    shadow: str


class Passage:
    """Made once a request, so it holds what is needed and nothing else.

    Attributes:
        use_case: what for.
        request_id: travels with it.
        wire: the way to everybody whom the decision names.
        decision: under which it is sent.
        target: to whom of those it is sent next, or was sent last.
        attempts: how often it was sent.
        shadow: routing key of the shadow that a copy was asked for; empty if none.
        undecided: whether it needs a decision, or a new one.
        torn: whether there has been a tear.
    """

    __slots__ = (
        *("attempts", "decision", "request_id", "shadow", "target", "torn", "undecided", "use_case", "wire"),
        *("_began", "_failed", "_place"),
    )
    wire: Wire
    decision: Decision
    target: Target
    _place: int

    def __init__(self, use_case: str, request_id: str) -> None:
        self.use_case, self.request_id = use_case, request_id
        self.attempts = 0
        self.shadow = ""
        self.undecided = True
        self.torn = False
        self._began = time.monotonic()
        self._failed = ""

    def decided(self, wire: Wire, decision: Decision) -> None:
        """The request goes this way, first to the version that was chosen."""
        self.undecided = False
        self.wire, self.decision, self.target, self._place = wire, decision, decision, 0

    def tear(self) -> None:
        """Header and body were at odds: the decision is not to be trusted."""
        self.undecided = self.torn = True

    def remaining_s(self) -> float:
        """What is left of the time that all attempts have together, seconds."""
        if not self.attempts:
            return self.decision.timeout_s
        return max(0.0, self.decision.timeout_s - (time.monotonic() - self._began))

    def send(self) -> tuple[tuple[str, str], ...]:
        """Counts one attempt more; what it carries beside the payload. Only the first asks for a copy."""
        metadata, shadow = self.target.metadata, self.decision.shadow
        if shadow is not None and not self.attempts and is_shadowed(self.use_case, self.request_id, shadow.percent):
            self.shadow = shadow.routing_key
            metadata += shadow.metadata
        self.attempts += 1
        return (*metadata, (headers.REQUEST_ID, self.request_id))

    def failed(self, error: grpc.aio.AioRpcError) -> None:
        """An attempt has failed; counts what an Envoy on the way has sent again."""
        if self.decision.repeats:
            self._repeated((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))

    async def told_by(self, rpc: Any, metadata: Callable[[], Awaitable[Any]]) -> Told:
        """What is known once an answer is there, or its first item.

        Args:
            rpc: the call.
            metadata: of the call, beside which a gateway tells what it decided.
        """
        if not self.decision.routing_key:
            return self.told(await metadata())
        if self.decision.repeats:
            self._repeated(await rpc.initial_metadata())
        return self.told(None)

    def _repeated(self, metadata: Any) -> None:
        for name, value in metadata or ():
            if name == headers.ENVOY_ATTEMPTS:
                self.attempts += int(value) - 1

    def fall_back(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether there is somebody else to try, and time to; if so, that is the target now."""
        code, _ = self._explained(error)
        if code not in FALLS_BACK or self._place == len(self.decision.alternatives) or not self.remaining_s():
            return False
        self._failed += f"; before that {self.target.routing_key}: {code.name}"
        self.target = self.decision.alternatives[self._place]
        self._place += 1
        return True

    def ends_in_default(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether this was the end of a chain of fallbacks, so that the caller's own default answer comes next."""
        if not self.decision.routing_key:
            return _told(error.trailing_metadata()).source == headers.DEFAULT
        code, _ = self._explained(error)
        return self.decision.falls_back and code in ENDS_IN_DEFAULT

    def told(self, metadata: Any) -> Told:
        """What is known: to this side, or where a gateway decided, by what it tells in ``metadata``."""
        if not self.decision.routing_key:
            return _told(metadata)
        source = headers.FALLBACK if self._place else headers.MODEL
        return Told(source, self.target.routing_key, self.decision.revision, self.attempts, self.shadow)

    def failure(self, error: grpc.aio.AioRpcError) -> CallError:
        """The error that the caller gets; its message names the use case or the routing key, whoever has failed."""
        code, details = self._explained(error)
        told = self.told(error.trailing_metadata())
        return CallError(
            code,
            details + self._failed,
            routing_key=told.routing_key,
            revision=told.revision,
            attempts=told.attempts,
            shadow=told.shadow,
        )

    def _explained(self, error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
        # Where a gateway has decided, the key is in its words already.
        return explained(
            error,
            use_case=self.use_case,
            routing_key=self.target.routing_key or _told(error.trailing_metadata()).routing_key,
            timeout_s=self.decision.timeout_s,
        )


def _told(metadata: Any) -> Told:
    told = dict(metadata or ())
    return Told(
        told.get(headers.SOURCE, headers.MODEL),
        told.get(HEADER, ""),
        int(told.get(headers.REVISION, 0)),
        int(told.get(headers.ATTEMPTS, 1)),
        told.get(SHADOW_HEADER, ""),
    )
