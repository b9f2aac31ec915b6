"""The context beside the payload."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.forms import BY_ENVELOPE, REGION, TIER, USER
from lab.plugins.conform.table import route
from models.proto.serving.v1 import serving_pb2

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-context.v1"
_SENT = {USER: "conform-user-1", REGION: "eu", TIER: "gold"}


async def _run(stage: Stage) -> Finding:
    sent_by = stage.request_id()
    answer = await stage.call(_KEY, metadata=tuple(_SENT.items()), sent_by=sent_by)
    if answer.model != "a":
        return failed(f"{_KEY} leads to model a, but got {answer}")
    [received] = stage.models["a"].received[sent_by]
    context = serving_pb2.EnvelopeOnly.FromString(received.body).envelope.context
    for header, value in _SENT.items():
        field = stage.form.field(header)
        if (seen := getattr(context, field)) != value:
            return failed(f"{field} {value!r} of the context reached the model as {seen!r}; pass the context on")
    return passed(fields=len(_SENT))


CHECK = Check(
    name="context",
    claim="the envelope's context reaches the model as it was sent",
    routes=(route(_KEY, "a"),),
    run=_run,
    only=BY_ENVELOPE,
)
