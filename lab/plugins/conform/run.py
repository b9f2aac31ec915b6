"""Runs checks against a proxy: models first, then the routes, then one check after the other."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.errors import InputError, LabError, UnitError
from lab.plugins.conform.check import Check, Finding, Result, failed, unknown
from lab.plugins.conform.forms import BY_HEADER, ByHeader
from lab.plugins.conform.kinds import CHECKS
from lab.plugins.conform.models import Model, Script
from lab.plugins.conform.stage import TIMEOUT_S, Stage

if TYPE_CHECKING:
    from lab.plugins.conform.control import Control
    from lab.plugins.conform.target import Target

FIRST_PORT = 19_400
"""Port of the first model, where a person configures the proxy."""
_CHECK_WITHIN_S = 90.0
_START_WITHIN_S = 30.0
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a proxy is tried.

    Attributes:
        form: of requests.
        checks: names of the checks; all if empty.
        first_port: port of the first model; with a control any free ports by default.
        routes_out: file for the table of routes; None for none.
        wait_s: how long a proxy without a control may take until it routes, seconds.
    """

    form: ByHeader
    checks: Sequence[str] = ()
    first_port: int = 0
    routes_out: Path | None = None
    wait_s: float = 60.0


def chosen(names: Sequence[str], form: ByHeader) -> list[Check]:
    """The checks of these names, for none all of this form of requests, in the order in which they run.

    Raises:
        InputError: there is no such check, it is for another form, or it has the routing key of another check.
    """
    checks = [CHECKS[name] for name in dict.fromkeys(names or CHECKS)]
    others = [check for check in checks if check.only not in {"", form.name}]
    if names and others:
        raise InputError(f"--checks: {others[0].name} is {_only(others[0].only)}")
    checks = [check for check in checks if check not in others]
    owners = Counter(key for check in checks for key in {route.key for route in check.routes})
    if shared := [key for key, number in owners.items() if number > 1]:
        raise InputError(f"routing key {shared[0]!r}: two checks have routes for it; give each its own keys")
    return sorted(checks, key=lambda check: check.drains)


def _only(form: str) -> str:
    """Which requests a check or a control is for, and the option to change."""
    wanted = "leave --envelope out" if form == BY_HEADER else "add --envelope"
    return f"for proxies that route on {'a header' if form == BY_HEADER else 'the envelope'}; {wanted}"


async def conform(
    target: Target,
    options: Options,
    control: Control | None = None,
    *,
    say: Callable[[str], None] = lambda _: None,
    on_result: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Tries a proxy, and returns one result for each check.

    Args:
        target: its address.
        options: see there.
        control: changes its routes; without one the routes are said, and a person configures them.
        say: takes lines of progress.
        on_result: takes each result as soon as it is there.

    Raises:
        LabError: it could not be tried at all: nobody listens, the TLS handshake fails, it routes nothing, it hangs.
    """
    if control is not None and control.only not in {"", options.form.name}:
        raise InputError(f"--control: {control.name} is {_only(control.only)}")
    checks = chosen(options.checks, options.form)
    routes = tuple(route for check in checks for route in check.routes)
    scripts: dict[bytes, Script] = {}
    names = {name for check in checks for name in check.models}.union(*(route.models for route in routes))
    places = _places(target, options, control, sorted(names))
    models = {name: Model(name, *where, scripts, options.form) for name, where in places}
    if control is None:
        (await target.connect()).close()
    stage = Stage(target, options.form, models, scripts, control, routes)
    try:
        await _start(stage, options, say)
        return await tried(checks, stage, say=say, on_result=on_result)
    finally:
        await stage.close()
        if control is not None:
            await control.close()
        await asyncio.gather(*(model.stop() for model in models.values()))


async def tried(
    checks: Sequence[Check], stage: Stage, *, say: Callable[[str], None], on_result: Callable[[Result], None]
) -> list[Result]:
    """Tries one check after the other; see :func:`conform`."""
    results = []
    for check in checks:
        say(f"{check.name}: {check.claim}")
        result = await _result(check, stage)
        if (task := asyncio.current_task()) and task.cancelling():
            raise asyncio.CancelledError  # Ctrl-C came at a moment when the check gave a call up itself
        results.append(result)
        on_result(result)
    return results


def _places(
    target: Target, options: Options, control: Control | None, names: Sequence[str]
) -> Iterator[tuple[str, tuple[str, int]]]:
    """Host and port for each model; port 0 for any free one."""
    first = options.first_port or (0 if control else FIRST_PORT)
    if first + len(names) > _LAST_PORT:
        raise InputError(f"--first-port: {first} leaves no room for {len(names)} models; choose a lower one")
    host = host_for(target)
    for number, name in enumerate(names):
        yield name, (host, first and first + number)


def host_for(target: Target) -> str:
    """This machine's address in the network of the proxy, which is where it finds the models."""
    if ":" in target.host:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target.host, target.port))  # sends nothing
        return str(probe.getsockname()[0])


async def _start(stage: Stage, options: Options, say: Callable[[str], None]) -> None:
    """Starts the models, and waits until the proxy routes to them."""
    for model in stage.models.values():
        await model.start()
    table = stage.document(stage.routes)
    if options.routes_out is not None:
        options.routes_out.write_text(json.dumps(table, indent=1) + "\n")
        say(f"routes: {options.routes_out}")
    within_s = options.wait_s
    if stage.control is not None:
        say(f"control {stage.control.name}: {len(stage.routes)} routes")
        await stage.restore()
        (await stage.target.connect()).close()
        within_s = _START_WITHIN_S
    else:
        for line in expected(table):
            say(line)
    plain = next((route for route in stage.routes if not route.features), None)
    if plain is None:
        return
    wanted = {backend.model for backend in plain.backends}
    say(f"waiting until {stage.target.address} routes {plain.key}, at most {within_s:g} s")
    last = await stage.until(plain.key, lambda answer: answer.model in wanted, within_s)
    if last.model in wanted:
        return
    if last.code.name == "DEADLINE_EXCEEDED":
        raise UnitError(f"{stage.target.address}: gives no answer to a request within {TIMEOUT_S:g} s: is it stuck?")
    route = f"{stage.form.described}: {stage.form.key(plain.key)}"
    raise UnitError(
        f"{stage.target.address}: routes {route} to none of its models within {within_s:g} s; "
        f"last: {last}; configure the routes that are printed above or that --routes-out writes, or see --control"
    )


def expected(table: dict[str, object]) -> Iterator[str]:
    """The table of routes as lines: header value → addresses."""
    yield "the proxy must have these routes (of two that match, the first wins); models speak HTTP/2 in plaintext"
    routes: list[dict[str, object]] = table["routes"]  # type: ignore[assignment] # our own document
    decides = table.get("header", "use case")
    for route in routes:
        parts: list[dict[str, object]] = route["backends"]  # type: ignore[assignment]
        weighted = len({each["weight"] for each in parts}) > 1
        to = ", ".join(f"{each['address']}" + (f" weight {each['weight']}" if weighted else "") for each in parts)
        conditions: dict[str, str] = route.get("conditions", {})  # type: ignore[assignment]
        needed = "".join(f", {name}: {value}" for name, value in conditions.items())
        method = f", method {route['method']}" if "method" in route else ""
        sticky = f"; equal values of {route['sticky']} always to the same" if "sticky" in route else ""
        shadow: dict[str, str] = route.get("shadow", {})  # type: ignore[assignment]
        copy = f"; a copy of each request to {shadow['address']}" if shadow else ""
        yield f"  {decides}: {route['key']}{needed}{method} → {to}{sticky}{copy}"


async def _result(check: Check, stage: Stage) -> Result:
    began = time.monotonic()
    finding = _why_not(check, stage.control) or await _finding(check, stage)
    return Result.of(check, finding, began)


def _why_not(check: Check, control: Control | None) -> Finding | None:
    """Why a check cannot be tried, if so."""
    if control is None:
        return unknown("needs a change of the proxy's routes: see --control") if check.changes or check.drains else None
    lacking = [each for route in check.routes for each in sorted(route.features) if each in control.cannot]
    if lacking:
        return unknown(f"control {control.name} cannot configure {lacking[0]}: {control.cannot[lacking[0]]}")
    if check.drains and control.drain is None:
        return unknown(f"control {control.name} cannot ask the proxy to end: see --drain")
    return None


async def _finding(check: Check, stage: Stage) -> Finding:
    try:
        for model in stage.models.values():
            await model.start()
            model.received.clear()
        await stage.restore()
        async with asyncio.timeout(_CHECK_WITHIN_S):
            return await check.run(stage)
    except TimeoutError:
        return failed(f"not done within {_CHECK_WITHIN_S:g} s: does the proxy hang?")
    except LabError as error:
        return unknown(str(error))
    except Exception as error:  # noqa: BLE001 (a check that breaks is unknown, never a pass)
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        return unknown(
            str(cause) if isinstance(cause, LabError) else f"the check broke: {type(cause).__name__}: {cause}"
        )
