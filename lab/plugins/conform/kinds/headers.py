"""Large headers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.table import route

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received
    from lab.plugins.conform.stage import Stage

_KEY, _NAME = "conform-headers.v1", "x-conform-large"
# gRPC's libraries accept 8 KB of metadata by default, so callers may send nearly as much.
_NEEDED, _TRIED = (1_000, 4_000, 7_000), (12_000, 15_000, 30_000, 60_000)
_MANY = 60


async def _run(stage: Stage) -> Finding:
    most = 0
    for length in (*_NEEDED, *_TRIED):
        got, answer = await _arrives(stage, ((_NAME, "h" * length),))
        if not got and length in _NEEDED:
            what = "the model got another value" if answer == "OK" else f"got {answer}"
            return failed(f"a header of {length:,} bytes: {what}; look at limits of header size", most_bytes=most)
        if not got:
            break
        most = length
    many = tuple((f"x-conform-{number}", f"value-{number}") for number in range(_MANY))
    got, answer = await _arrives(stage, many)
    if not got:
        return failed(f"{_MANY} headers: not all arrived ({answer}); look at limits of their number", most_bytes=most)
    if not (after := await stage.call(_KEY)).ok:
        return failed(f"after a request with large headers, one with small ones got {after}", most_bytes=most)
    return passed(most_bytes=most, headers=_MANY)


async def _arrives(stage: Stage, sent: tuple[tuple[str, str], ...]) -> tuple[bool, str]:
    """Whether a model got these headers, and how the request ended."""
    seen: list[Received] = []

    async def keep(received: Received) -> AsyncIterator[bytes]:
        seen.append(received)
        yield b""

    answer = await stage.call(_KEY, metadata=sent, script=keep)
    got = bool(seen) and all(seen[-1].values(name) == [value] for name, value in sent)
    return got and answer.ok, "OK" if answer.ok else str(answer)


CHECK = Check(
    name="headers",
    claim="headers of 7 KB, and 60 of them, reach the model",
    routes=(route(_KEY, "a"),),
    run=_run,
)
