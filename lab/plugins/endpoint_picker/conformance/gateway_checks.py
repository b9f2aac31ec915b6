"""What a gateway before an endpoint picker must do, one check each, by :mod:`lab.plugins.endpoint_picker.contract`.

The suite of kubernetes-sigs/gateway-api-inference-extension (conformance/tests) tests neither FailClose, nor subsets,
the order of the list, a header that differs from the metadata, or an endpoint outside the pool; its test of FailOpen
asks a pool whose picker lives (its issue 3037).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc.aio

from lab.plugins.conform.check import Check, Finding, failed, passed
from lab.plugins.conform.models import signed
from lab.plugins.conform.stage import TIMEOUT_S
from lab.plugins.endpoint_picker.conformance.gateway_stage import (
    CLOSED,
    FAILS_WITHIN_S,
    OF_SUBSET,
    OPEN,
    OUTSIDE,
    POOL,
    SUBSET_KEY,
    GatewayStage,
)
from lab.plugins.endpoint_picker.conformance.scripted import never, nonsense, picks
from lab.plugins.endpoint_picker.contract import DESTINATION

if TYPE_CHECKING:
    from lab.plugins.conform.models import Received

_SKEWED = ("a", "a", "c", "b", "a", "a", "c", "c", "a")
"""Picks that no policy of the gateway's own makes."""
_NEXT = ("a", "a", "b", "b", "b", "a")
"""Second picks, likewise."""
_EACH, _LARGE, _MESSAGES = 6, 1_000_000, 5


async def _pick(stage: GatewayStage) -> Finding:
    for number, wanted in enumerate(_SKEWED):
        stage.pick(wanted)
        answer, seen = await stage.ask()
        if seen is None:
            return failed("the picker was not asked: is it the pool's?", request=number)
        if answer.model != wanted:
            return failed(f"the picker picked {wanted}, and there was {answer}", request=number)
    return passed(requests=len(_SKEWED))


async def _fallback(stage: GatewayStage) -> Finding:
    await stage.models["c"].stop()
    for second in _NEXT:
        third = "b" if second == "a" else "a"
        stage.pick("c", second, third)
        answer, _ = await stage.ask()
        if answer.model != second:
            return failed(
                f"c is dead, the list was c, {second}, {third}, and there was {answer}: does it retry, down the list?"
            )
    return passed(requests=len(_NEXT))


async def _subset(stage: GatewayStage) -> Finding:
    stage.pick(OF_SUBSET)
    answer, seen = await stage.ask(SUBSET_KEY)
    if seen is None:
        return failed(f"the picker was not asked, and there was {answer}")
    if seen.subset != stage.endpoints(OF_SUBSET):
        said = "no subset" if seen.subset is None else f"the subset {', '.join(seen.subset) or 'of nothing'}"
        return failed(f"the picker was told {said}, and the pool's is {stage.endpoints(OF_SUBSET)[0]}")
    other = (await stage.ask())[1]
    if other is not None and other.subset is not None:
        return failed("the picker was told a subset for a pool that has none")
    return passed() if answer.model == OF_SUBSET else failed(f"the picker picked {OF_SUBSET}, and there was {answer}")


async def _differ(stage: GatewayStage) -> Finding:
    stage.pick("a", metadata="b")
    answers = [(await stage.ask())[0] for _ in range(_EACH)]
    models = Counter(each.model for each in answers)
    if len(models) == 1 and models.keys() <= {"a", "b", ""}:
        by = {"a": "header", "b": "metadata", "": "neither: it refuses"}[answers[0].model]
        return passed(goes_by=by)
    led_to = ", ".join(f"{number} × {name or 'no model'}" for name, number in models.items())
    return failed(f"header a and metadata b led to {led_to}: a gateway goes by one of the two, or refuses")


async def _outside(stage: GatewayStage) -> Finding:
    stage.pick(OUTSIDE)
    for _ in range(_EACH):
        answer, _ = await stage.ask()
        if answer.model == OUTSIDE:
            return failed("an endpoint outside the pool was served: a broken picker can send requests anywhere")
    stage.pick(OUTSIDE, "b")
    answer, _ = await stage.ask()
    if answer.model not in {"b", ""}:
        return failed(f"the list was one outside the pool, then b, and there was {answer}: the first valid one counts")
    return passed(then="refused" if answer.model == "" else "the next of the list")


async def _served(stage: GatewayStage) -> Finding:
    for wanted in POOL:
        stage.pick(wanted)
        answer, seen = await stage.ask()
        if problem := _told(stage, answer.model, seen.served if seen else None):
            return failed(problem)
    await stage.models["c"].stop()
    stage.pick("c", "b")
    answer, seen = await stage.ask()
    problem = _told(stage, answer.model, seen.served if seen else None) if answer.ok else ""
    return failed(f"after a fallback, {problem}") if problem else passed(requests=len(POOL) + 1)


def _told(stage: GatewayStage, model: str, served: str | None) -> str:
    if not model:
        return "there was no answer"
    if served is None:
        return "the picker was not asked"
    wanted = stage.models[model].address
    return "" if served == wanted else f"{wanted} served, and the picker was told {served or 'nothing'} at the response"


async def _forged(stage: GatewayStage) -> Finding:
    [forged] = stage.endpoints("c")
    outside = stage.models[OUTSIDE].address
    stage.pick("b")
    answer, seen = await stage.ask(metadata=((DESTINATION, forged),))
    if answer.model != "b":
        return failed(f"the client's header named c, the picker picked b, and there was {answer}")
    if seen is not None and forged in seen.headers.get(DESTINATION, ""):
        return failed("the picker got the client's header: remove it first")
    await stage.picker.stop()
    models: Counter[str] = Counter()
    for _ in range(_EACH):
        for address in (forged, outside):
            answer, _ = await stage.ask(metadata=((DESTINATION, address),))
            models[answer.model] += 1
    reached = [
        each.values(DESTINATION)
        for model in stage.models.values()
        for received in model.received.values()
        for each in received
    ]
    if models[OUTSIDE] or set(models) == {"c"}:
        return failed("the picker was dead, and the client's header decided: remove it before all else")
    if any(value in {forged, outside} for values in reached for value in values):
        return failed("the client's header came to a model: remove it")
    return passed(requests=2 * _EACH + 1)


async def _body(stage: GatewayStage) -> Finding:
    async def large(received: Received) -> AsyncIterator[bytes]:
        yield signed(received) + b"x" * _LARGE

    stage.pick("a")
    reached = 0
    for size in (0, 1, 70_000, _LARGE):
        answer, seen = await stage.ask(OPEN, b"y" * size, script=large)
        if not answer.ok:
            return failed(f"a body of {size} bytes: {answer}")
        if not answer.intact or answer.body != b"x" * _LARGE:
            return failed(f"a body of {size} bytes, or its answer, came changed")
        reached += seen.body_bytes if seen else 0
    return passed(bytes_at_the_picker=reached)


async def _streaming(stage: GatewayStage) -> Finding:
    got = asyncio.Semaphore(0)

    async def one_by_one(_received: Received) -> AsyncIterator[bytes]:
        for number in range(_MESSAGES):
            yield number.to_bytes()
            await got.acquire()  # the caller has this message

    stage.pick("a")
    async with stage.channel() as channel:
        call, arrived = stage.stream(OPEN, channel, TIMEOUT_S), 0
        try:
            await call.write(stage.request_id(one_by_one))
            await call.done_writing()
            async for _ in call:
                arrived += 1
                got.release()
        except grpc.aio.AioRpcError as error:
            return failed(
                f"{arrived} of {_MESSAGES} messages arrived in {TIMEOUT_S:g} s, each of which the model sends once the "
                f"caller has the one before, then {error.code().name}: does the gateway buffer answers?"
            )
    return passed(messages=arrived) if arrived == _MESSAGES else failed(f"{arrived} of {_MESSAGES} messages arrived")


def _without(how: str, *, opens: bool) -> Check:
    """What a pool does while its picker is dead, slow, or answers nonsense."""
    key = OPEN if opens else CLOSED

    async def run(stage: GatewayStage) -> Finding:
        if how == "dead":
            await stage.picker.stop()
        behave = {"dead": picks(*stage.endpoints("a")), "slow": never, "nonsense": nonsense}[how]
        slowest = 0.0
        for _ in range(2):
            answer, took_s = await stage.while_picker(behave, key)
            slowest = max(slowest, took_s)
            if took_s > FAILS_WITHIN_S:
                return failed(f"after {took_s:.1f} s there was {answer}: bound how long a request waits for the picker")
            if answer.ok is not opens:
                wanted = "FailOpen sends the request on" if opens else "FailClose refuses it"
                return failed(f"there was {answer}: {wanted}")
            if answer.ok and answer.model not in POOL:
                return failed(f"{answer}, which is not in the pool")
        return passed(slowest_ms=round(1e3 * slowest))

    what = {"dead": "is dead", "slow": "does not answer", "nonsense": "answers nonsense"}[how]
    result = "the request is sent on" if opens else "the request is refused"
    return _check(
        f"fail-{'open' if opens else 'close'}-{how}",
        f"while the picker {what}, {result}, within {FAILS_WITHIN_S:g} s",
        run,
        "EppUnAvailableFailOpen" if opens and how == "dead" else "",
    )


def _check(name: str, claim: str, run: object, upstream: str = "") -> Check:
    return Check(name=name, claim=claim, upstream=upstream and f"GIE {upstream}", run=run)  # type: ignore[arg-type]


CHECKS = {
    each.name: each
    for each in (
        _check("pick", "every request goes where the picker says", _pick, "GatewayFollowingEPPRouting"),
        _check("fallback", "if the picked endpoint is dead, the list is walked in its order", _fallback),
        _check("subset", "the picker is told the pool's subset, and no other pool's", _subset),
        _check("header-not-metadata", "of a header and metadata that differ, one always counts, or neither", _differ),
        _check("outside-pool", "an endpoint outside the pool is not served", _outside),
        _check("served", "the picker is told which endpoint has served", _served, "GatewayDestinationEndpointServed"),
        _check("forged", "a client's endpoint header decides nothing, and reaches nobody", _forged),
        _check("body", "bodies come as they were sent", _body),
        _check("streaming", "each message of a streamed answer arrives before the model sends the next", _streaming),
        *(_without(how, opens=opens) for how in ("dead", "slow", "nonsense") for opens in (True, False)),
    )
}
"""All checks, by name."""
