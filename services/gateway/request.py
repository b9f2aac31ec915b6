"""One request at a gateway: what was received, and the decision that its attempts follow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.routing import headers
from lab.routing.attempts import Decision, RequestAttempts, Target
from lab.routing.keys import HEADER
from lab.routing.limits import DEFAULT
from models.apis import APIS
from models.asked import asked_of
from services.gateway.picked_for import PickedFor
from services.rules import model_config

if TYPE_CHECKING:
    from lab.pickers import Asked
    from lab.routing.compiled import Choice, Version
    from models.proto.serving.v1 import serving_pb2
    from services.gateway.tenant_quota import TenantQuota


def decision_of(choice: Choice) -> Decision:
    """The decision for all requests with one choice."""
    versions: tuple[Choice | Version, ...] = (choice, *choice.alternatives)
    timeout_s = choice.timeout_s
    return Decision(
        targets=tuple(_target(version, choice.revision, timeout_s) for version in versions),
        timeout_s=timeout_s,
        revision=choice.revision,
        falls_back=choice.falls_back,
        shadow=choice.shadow,
        renewable=True,
        repeats=choice.policy.repeats if choice.policy is not None else 0,
        slo=choice.slo,
        priority=choice.priority,
    )


def _target(version: Choice | Version, revision: int, timeout_s: float) -> Target:
    key, timeout_ms = (HEADER, version.routing_key), str(round(timeout_s * 1000))
    return Target(
        routing_key=version.routing_key,
        model_config=model_config(version),
        headers=(key,),
        answer_headers=(key, (headers.REVISION, str(revision)), (headers.TIMEOUT, timeout_ms)),
    )


class FailedError(Exception):
    """The request ends here, with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code, self.details = code, details


class FullError(Exception):
    """No attempt can be made at one version, as a bound is reached, which the message names.

    Attributes:
        code: status of the request if no other version answers it.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class LateError(FullError):
    """The use case's timeout has passed while the request waited for a replica."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class GatewayRequest(PickedFor):
    """A received request and its state; made once a request, so it is small.

    Attributes:
        message: the parsed part of the request; at least the envelope.
        payload: the part that is not parsed, which precedes the envelope on the way to the model; empty if all is.
        context: the RPC's.
        api: name of the API that was called.
        envelope: of the message.
        fields: of the envelope's context, checked.
        attempts: state machine of its attempts.
        quota: its tenant's, which the request leaves at its end; None until it is admitted.

    Raises:
        ValueError: a header says how many retries are left, and that is not a number.
    """

    __slots__ = ("api", "attempts", "context", "envelope", "fields", "message", "payload", "quota")

    def __init__(
        self,
        message: Any,
        context: grpc.aio.ServicerContext[Any, Any],
        request_id: str,
        payload: bytes,
        api: str,
        fields: dict[str, str],
    ) -> None:
        super().__init__()
        self.message, self.payload, self.context, self.api, self.fields = message, payload, context, api, fields
        self.envelope: serving_pb2.Envelope = message.envelope
        self.quota: TenantQuota | None = None
        self.attempts = RequestAttempts(
            self.envelope.use_case,
            request_id,
            time.monotonic(),
            patience_s=context.time_remaining(),
            retries_left=headers.retries_left(context.invocation_metadata()),
        )

    def read(self) -> Asked:
        """The request as pickers see it; without a prompt if its API has none, or if the payload is not parsed."""
        if self.asked is None:
            decision, prompt_of = self.attempts.decision, None if self.payload else APIS[self.api].prompt_of
            asked = asked_of(self.message, self.attempts.request_id, decision.slo, prompt_of)
            self.asked = asked._replace(priority=decision.priority, flow=self._flow())
        return self.asked

    def _flow(self) -> str:
        """Its tenant if the route table names it, else its caller, which gains nothing by inventing tenants."""
        context, quota = self.envelope.context, self.quota
        if context.tenant and quota is not None and quota.entry == context.tenant != DEFAULT:
            return f"tenant/{context.tenant}"
        return f"caller/{context.caller}"

    def remaining_s(self) -> float:
        """Time left for its attempts, seconds, until the use case's timeout or the caller's own deadline."""
        return self.attempts.remaining_s(time.monotonic())
