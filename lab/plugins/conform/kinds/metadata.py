"""Metadata in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.models import Received, signed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.stage import Stage

_KEY = "conform-metadata.v1"
# Names of the upstream test; a binary value that is not text, and two values of one name.
_SENT: tuple[tuple[str, str | bytes], ...] = (
    ("x-grpc-test-echo-initial", "test_initial_metadata_value"),
    ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab\x00\xff"),
    ("x-conform-list", "one"),
    ("x-conform-list", "two"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)


async def _run(stage: Stage) -> Finding:
    seen: list[Received] = []

    async def echo(received: Received) -> AsyncIterator[bytes]:
        seen.append(received)
        await received.context.send_initial_metadata(_SENT)
        yield signed(received)

    answer = await stage.call(_KEY, metadata=_SENT, script=echo)
    if not answer.ok:
        return failed(f"a request with metadata got {answer}")
    received = [each for each in seen[0].metadata if each[0] in dict(_SENT)]
    for where, got in (("request", received), ("answer", answer.initial)):
        for name in dict(_SENT):
            sent = [value for each, value in _SENT if each == name]
            if _split(value for each, value in got if each == name) != sent:
                arrived = [value for each, value in got if each == name]
                return failed(f"{name} of the {where}: sent {sent}, arrived {arrived}; pass metadata on unchanged")
    return passed(names=len(dict(_SENT)))


def _split(values: object) -> list[str | bytes]:
    """The values of a name; RFC 9110, section 5.3, lets a proxy join several by commas."""
    found: list[str | bytes] = []
    for value in values:  # type: ignore[attr-defined] # any iterable
        found.extend(value.replace(", ", ",").split(",") if isinstance(value, str) else [value])
    return found


CHECK = Check(
    name="metadata",
    claim="metadata of requests and answers passes unchanged, binary and repeated values, too",
    upstream="gRPC interop custom_metadata",
    routes=(route(_KEY, "a"),),
    run=_run,
)
