"""One request's attempts: which version is tried next, how much time is left, and what the answer reports.

Client and gateway drive the same state machine and do the sending themselves. Times are seconds of one monotonic clock
and are handed in; gRPC statuses go by their names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lab.routing import headers
from lab.routing.buckets import is_shadowed
from lab.routing.keys import HEADER, SHADOW_HEADER
from lab.routing.resilience import FALLS_BACK, RetryBudget
from lab.routing.slo import NO_SLO, Slo

if TYPE_CHECKING:
    from lab.routing.rules import Shadow

    Headers = tuple[tuple[str, str], ...]

TEAR = "FAILED_PRECONDITION"
"""Status of a request whose header names one model version and whose body another."""

ENDS_IN_DEFAULT = FALLS_BACK | {"DEADLINE_EXCEEDED"}
"""Statuses after which the caller gives its default answer, if the use case has a fallback chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model version that may answer, and what a request to it carries.

    Attributes:
        routing_key: empty where a gateway decides.
        model_config: ``serving.v1.ModelConfig`` of the request's body; None where a gateway fills it in.
        headers: of every request to it.
        unary_headers: of unary requests only: they ask an Envoy for per-try timeouts and hedges, which break streams.
        answer_headers: what a gateway reports beside an answer.
    """

    routing_key: str = ""
    model_config: Any = None
    headers: Headers = ()
    unary_headers: Headers = ()
    answer_headers: Headers = ()

    def fill(self, envelope: Any) -> None:
        """Writes the model's configuration into a ``serving.v1.Envelope``, or takes out what is there."""
        if self.model_config is None:
            envelope.ClearField("model_config")
        else:
            envelope.model_config.CopyFrom(self.model_config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where requests go that have the same use case and the same relevant context.

    Attributes:
        targets: versions in the order in which they are tried.
        timeout_s: for all attempts together, seconds.
        revision: of the route table; 0 if none was read.
        falls_back: whether the use case has a fallback chain; if all of it fails, the caller gives its default answer.
        shadow: version that gets copies, and of which share of requests; None if there is none.
        renewable: whether a new decision may mend a tear.
        mirrored_by_proxy: whether a proxy on the path sends the shadow copies, as a header asks; otherwise the sender.
        repeated_by_proxy: whether a proxy on the path may retry; it reports its attempts in a header.
        repeats: how often the request may be sent again to one version, by a retry or a hedge; 0 if a gateway decides.
        slo: of the use case, where a picker of replicas may go by it.
        priority: of the use case, where requests wait for a replica.
    """

    targets: tuple[Target, ...]
    timeout_s: float
    revision: int = 0
    falls_back: bool = False
    shadow: Shadow | None = None
    renewable: bool = False
    mirrored_by_proxy: bool = False
    repeated_by_proxy: bool = False
    repeats: int = 0
    slo: Slo = NO_SLO
    priority: int = 0


_UNDECIDED = Decision(targets=(Target(),), timeout_s=math.inf)


class AnswerMetadata(NamedTuple):
    """How a request went; see :class:`lab.client.Answer` for the fields.

    Attributes:
        timeout_s: of the use case, seconds, as a gateway reports it; 0 if none does.
    """

    source: str
    routing_key: str
    revision: int
    attempts: int
    shadow: str
    timeout_s: float = 0.0

    @classmethod
    def of_headers(cls, received: Iterable[tuple[str, Any]] | None) -> AnswerMetadata:
        """What a gateway reports; the inverse of :meth:`RequestAttempts.answer_headers`."""
        found = dict(received or ())
        return cls(
            found.get(headers.SOURCE, headers.MODEL),
            found.get(HEADER, ""),
            int(found.get(headers.REVISION, 0)),
            int(found.get(headers.ATTEMPTS, 1)),
            found.get(SHADOW_HEADER, ""),
            int(found.get(headers.TIMEOUT, 0)) / 1000,
        )


class RequestAttempts:
    """State machine of one request. Made once a request; an attempt allocates nothing.

    Args:
        use_case: what it asks for.
        request_id: decides whether the request is shadowed.
        now: when the request began.
        patience_s: time until the caller's own deadline, seconds; None if it has none.
        retries_left: retries and hedges that the caller allows besides what the table allows; None if it sets no limit.

    Attributes:
        began: when the request began.
        decision: the latest.
        target: version of the next attempt, or of the latest.
        undecided: whether a decision is needed before the next attempt.
        torn: whether an attempt was torn.
        made: attempts made.
        shadow: routing key of the shadow that gets a copy; empty if none does.
        tried: connections that a retry avoids if there are others.
        failures: earlier targets and their statuses, as the end of an error message.
    """

    __slots__ = (
        *("began", "decision", "failures", "made", "request_id", "retries_left", "shadow", "target", "torn", "tried"),
        *("undecided", "use_case", "_budget", "_made_before", "_patience_s", "_place"),
    )
    # Set by `decided`, and read only after it.
    tried: tuple[object, ...]
    _made_before: int
    _place: int

    def __init__(
        self,
        use_case: str,
        request_id: str,
        now: float,
        patience_s: float | None = None,
        retries_left: int | None = None,
    ) -> None:
        self.use_case, self.request_id, self.retries_left = use_case, request_id, retries_left
        self.began, self._patience_s = now, math.inf if patience_s is None else patience_s
        self.decision, self.target = _UNDECIDED, _UNDECIDED.targets[0]
        self.undecided, self.torn = True, False
        self.made = 0
        self.shadow = self.failures = ""
        self._budget: RetryBudget | None = None

    def decided(self, decision: Decision) -> None:
        """Follows a decision, from its first target on."""
        self.undecided, self.decision, self.target = False, decision, decision.targets[0]
        self._place, self._made_before, self.tried = 0, self.made, ()

    @property
    def timeout_s(self) -> float:
        """For all attempts together, seconds: the decision's, or the caller's own if that is shorter."""
        return min(self.decision.timeout_s, self._patience_s)

    @property
    def patient(self) -> bool:
        """Whether the caller has no deadline of its own."""
        return math.isinf(self._patience_s)

    @property
    def hurried(self) -> bool:
        """Whether the caller's own deadline is before the end of the decision's timeout."""
        return self._patience_s < self.decision.timeout_s

    def remaining_s(self, now: float) -> float:
        """Time left for this and all further attempts, seconds."""
        return max(0.0, self.timeout_s - (now - self.began))

    def begin(self) -> bool:
        """Counts an attempt; returns whether the shadow gets a copy of it, which only the first attempt may."""
        self.made += 1
        shadow = self.decision.shadow
        if shadow is None or self.made > 1 or not is_shadowed(self.use_case, self.request_id, shadow.percent):
            return False
        self.shadow = shadow.routing_key
        return True

    def failed(
        self, status: str, now: float, *, budget: RetryBudget | None = None, connection: object = None
    ) -> float | None:
        """Moves on after a failed attempt: to a new decision, to a retry, or to the next target.

        Args:
            status: name of the attempt's gRPC status.
            now: time.
            budget: grants retries at the same version; None where a proxy on the path makes them.
            connection: that the attempt went over; a retry avoids it.

        Returns:
            Seconds to wait before the next attempt; None if the request has failed.
        """
        self.end_retry()
        if status == TEAR and self.decision.renewable and not self.torn:
            self.undecided = self.torn = True
            return 0.0
        if budget is not None and self.may_repeat:
            pause_s = budget.pause_before_retry(status, self.made - self._made_before, self.remaining_s(now))
            if pause_s is not None:
                self.begin_retry(budget, connection)
                return pause_s
        return 0.0 if self.fall_back(status, now) else None

    def fall_back(self, status: str, now: float) -> bool:
        """Goes to the next target. Returns False if the status is no reason to, or no target or no time is left."""
        place = self._place + 1
        if status not in FALLS_BACK or place == len(self.decision.targets) or not self.remaining_s(now):
            return False
        self.failures += f"; before that {self.target.routing_key}: {status}"
        self.target = self.decision.targets[place]
        self._place, self._made_before, self.tried = place, self.made, ()
        return True

    @property
    def may_repeat(self) -> bool:
        """Whether the caller allows one more attempt at the same version."""
        return self.retries_left is None or self.retries_left > 0

    @property
    def retry_headers(self) -> Headers:
        """Tells a gateway how many retries are left. Others know all or none: none if too few are left for all."""
        left = self.retries_left
        if left is None or (self.target.routing_key and left >= self.decision.repeats):
            return ()
        return ((headers.RETRIES_LEFT, "0" if self.target.routing_key else str(left)),)

    def repeated(self, times: int) -> None:
        """Counts what a proxy on the path has sent again."""
        self.made += times
        if self.retries_left is not None:
            self.retries_left -= times

    def begin_retry(self, budget: RetryBudget, connection: object) -> None:
        """Notes an extra attempt at the same version that ``budget`` has granted."""
        self._budget = budget
        if self.retries_left is not None:
            self.retries_left -= 1
        self.tried += (connection,)

    def end_retry(self) -> None:
        """Gives an extra attempt back to the budget that granted it."""
        if self._budget is not None:
            self._budget.end()
            self._budget = None

    def answer_metadata(self, failure: str = "") -> AnswerMetadata:
        """How the request went; ``failure`` is the status that it ended with, empty for an answer."""
        key, revision = self.target.routing_key, self.decision.revision
        return AnswerMetadata(self._source(failure), key, revision, self.made, self.shadow)

    def answer_headers(self, failure: str = "") -> Headers:
        """What a gateway reports beside an answer or an error; empty if nothing was decided."""
        reported = self.target.answer_headers
        if not reported:
            return ()
        if self.made != 1:
            reported += ((headers.ATTEMPTS, str(self.made)),)
        if self.shadow:
            reported += ((SHADOW_HEADER, self.shadow),)
        source = self._source(failure)
        return reported if source is headers.MODEL else (*reported, (headers.SOURCE, source))

    def _source(self, failure: str) -> str:
        if failure in ENDS_IN_DEFAULT and self.decision.falls_back and not self.undecided:
            return headers.DEFAULT
        return headers.FALLBACK if self._place else headers.MODEL
